"""What all kinds of tokenizers share, whatever their tokens are."""

import codecs
import multiprocessing
from collections.abc import Callable
from functools import partial
from itertools import islice

import numpy as np
import vocabularies

BATCH = 1_000_000  # characters


class Tokenizer:
    """What each kind adds is named at the top."""

    encode: Callable[..., list[int]]
    from_state: Callable[[dict], "Tokenizer"]
    as_given: dict  # a state
    vocab: dict[int, bytes]
    vocab_size: int
    end_of_text: int
    dummy_prefix = ""  # what `encode` puts before a text, and `decode` takes away again

    def state(self):
        """What `from_state` makes the tokenizer of again."""
        return self.as_given

    @property
    def chat_template(self):
        """How a conversation is written down for the model, in Jinja; None if that is not known."""
        return self.state().get("chat_template")

    def with_chat_template(self, template):
        return self.from_state(self.state() | {"chat_template": template})

    @property
    def end_tokens(self):
        """The ids at which an answer ends: those that a model's files name, or else the end of text."""
        named = self.state().get("end_tokens", [])
        return tuple(i for i in named if i in self.vocab) or (self.end_of_text,)

    @property
    def dtype(self):
        """The smallest kind of number that holds every id."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    def decode_bytes(self, ids):
        """The bytes of some ids. Raises ValueError at an unknown one."""
        try:
            return b"".join(map(self.vocab.__getitem__, ids))
        except KeyError as error:
            raise ValueError(f"{error} is no token of this vocabulary of {self.vocab_size:,}") from error

    def decode(self, ids):
        """The text of some ids; bytes that are no UTF-8 become U+FFFD. Raises ValueError at an unknown id."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace").removeprefix(self.dummy_prefix)

    def stream(self, ids):
        """Yield the text of ids as they come, never half a character; joined it is what `decode` gives."""
        decoder, prefix = codecs.getincrementaldecoder("utf-8")(errors="replace"), self.dummy_prefix
        for i in ids:
            if text := decoder.decode(self.decode_bytes([i])):
                yield text.removeprefix(prefix)
                prefix = ""
        if text := decoder.decode(b"", final=True):
            yield text

    def offsets(self, ids):
        """For each id (start, end) of its characters in `decode(ids)`; tokens that share a character overlap.

        Right for the ids of any text; not for bytes that are no UTF-8.
        """
        spans, begun = [], 0  # characters that have begun so far
        if self.dummy_prefix and self.decode_bytes(ids).decode("utf-8", errors="replace").startswith(self.dummy_prefix):
            begun = -len(self.dummy_prefix)
        for i in ids:
            begins = [byte & 0b1100_0000 != 0b1000_0000 for byte in self.decode_bytes([i])]  # others go on with one
            start = begun if not begins or begins[0] else begun - 1  # -1: bytes that are no UTF-8
            begun += sum(begins)
            spans.append((max(start, 0), max(begun, 0)))
        return spans

    def pack(self, text, dtype, **special):
        """The ids of a text as the bytes of an array."""
        return np.array(self.encode(text, **special), dtype).tobytes()

    def encode_batch(self, texts, processes=1, **special):
        """The ids of several texts; with several processes, some at once, which pays for megabytes of them."""
        packed = in_processes(partial(self.pack_all, special), batches(texts), processes)
        return [np.frombuffer(ids, np.uint32).tolist() for some in packed for ids in some]

    def pack_all(self, special, texts):
        return [self.pack(text, np.uint32, **special) for text in texts]

    def save(self, path):
        """Write the tokenizer, whole or not at all, in the format that the name asks for (vocabularies.py)."""
        vocabularies.write(self.state(), path)

    def __reduce__(self):  # how it travels to another process
        return self.from_state, (self.state(),)


def batches(texts):
    """Yield the texts in lists, each of about a million characters: few trips between processes, little memory."""
    some, size = [], 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size > BATCH:
            yield some
            some, size = [], 0
    if some:
        yield some


def in_processes(function, items, processes):
    """`map(function, items)`, in several processes if there are to be several, a few items ahead."""
    if processes == 1:
        yield from map(function, items)
        return
    items = iter(items)
    with multiprocessing.Pool(processes, remember, (function,)) as pool:
        while some := list(islice(items, 4 * processes)):
            yield from pool.imap(call, some)


def remember(function):
    """Keep the function in a process that begins, so that it travels once and not with every item."""
    call.function = function


def call(item):
    return call.function(item)
