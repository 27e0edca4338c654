"""Text to token ids and back: our own byte-pair encoding, OpenAI's, or one token per character.

    tokenizer = BPETokenizer(pattern="cl100k_base")
    tokenizer.train("the cat sat on the mat", vocab_size=260)
    tokenizer.decode(tokenizer.encode("the hat"))  # "the hat"

All three kinds have `encode`, `decode`, `vocab_size`, `end_of_text` (an id) and `state()`, what a
checkpoint stores of them; `from_state` makes them again.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import regex
import tiktoken

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from atomic import replacing
from bpe_fast import train_fast
from bpe_plain import merge
from flags import UserError
from word_patterns import PATTERNS, cut

END_OF_TEXT = "<|endoftext|>"
LARGEST_CACHE = 100_000  # words whose ids are remembered


class BPETokenizer:
    """Byte-pair encoding as GPT-2 has it: on the bytes of words, so that every text can be encoded.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.
    """

    kind = "tokenizer"

    def __init__(self, pattern="cl100k_base", special_tokens=(END_OF_TEXT,)):
        if pattern not in PATTERNS:
            raise ValueError(f"no pattern '{pattern}': choose from {', '.join(PATTERNS)}")
        self.pattern = pattern
        self.set_merges({}, special_tokens)

    def set_merges(self, merges, special_tokens):
        """Ids 0 to 255 are the bytes, then come the merges in order, then the special tokens."""
        self.merges = merges  # {(left id, right id): id}
        self.vocab = {i: bytes([i]) for i in range(256)}  # {id: bytes}
        for (left, right), new_id in merges.items():
            self.vocab[new_id] = self.vocab[left] + self.vocab[right]
        self.special_tokens = {text: len(self.vocab) + i for i, text in enumerate(special_tokens)}
        self.vocab |= {i: text.encode() for text, i in self.special_tokens.items()}
        self.cache = {}  # word -> ids

    @property
    def vocab_size(self):
        return len(self.vocab)

    @property
    def end_of_text(self):
        return self.special_tokens[END_OF_TEXT]

    def train(self, text_or_texts, vocab_size):
        """Learn merges until there are `vocab_size` tokens, special tokens included, or no pair is left.

        Takes one text or an iterable of texts, read once. Raises ValueError if vocab_size leaves no
        room for the 256 bytes and the special tokens.
        """
        merge_count = vocab_size - 256 - len(self.special_tokens)
        if merge_count < 0:
            raise ValueError(f"vocab_size {vocab_size} must be at least {256 + len(self.special_tokens)}")
        texts = [text_or_texts] if isinstance(text_or_texts, str) else text_or_texts
        word_counts = Counter()
        for text in texts:
            word_counts.update(cut(self.pattern, text))
        word_counts = {word.encode("utf-8", errors="replace"): count for word, count in word_counts.items()}
        self.set_merges(train_fast(word_counts, merge_count), tuple(self.special_tokens))

    def encode_word(self, word):
        """The ids of one word: its bytes, of which the pair that was learned first is merged, again and again."""
        if word in self.cache:
            return self.cache[word]
        ids = list(word.encode("utf-8", errors="replace"))
        while len(ids) > 1:
            first = min(zip(ids, ids[1:]), key=lambda pair: self.merges.get(pair, len(self.vocab)))
            if first not in self.merges:
                break
            ids = merge(ids, first, self.merges[first])
        if len(self.cache) < LARGEST_CACHE:
            self.cache[word] = ids
        return ids

    def encode(self, text, allowed_special=frozenset(), disallowed_special="all"):
        """Token ids of a text. As tiktoken has it, a special token is never read out of a text unawares.

        `allowed_special` names those that become their id ("all" of them); meeting one of
        `disallowed_special` ("all" others) raises ValueError; what is in neither is ordinary text.
        """
        special = set(self.special_tokens)
        allowed = special if allowed_special == "all" else set(allowed_special)
        disallowed = special - allowed if disallowed_special == "all" else set(disallowed_special)
        for found in sorted(token for token in disallowed if token in text):
            raise ValueError(f"the text contains the special token {found!r}: allow it, or pass disallowed_special=()")
        if not allowed:
            return [i for word in cut(self.pattern, text) for i in self.encode_word(word)]
        longest_first = sorted(allowed, key=len, reverse=True)
        ids = []
        for part in regex.split("(" + "|".join(map(regex.escape, longest_first)) + ")", text):
            if part in allowed:
                ids.append(self.special_tokens[part])
            else:
                ids += [i for word in cut(self.pattern, part) for i in self.encode_word(word)]
        return ids

    def decode(self, ids):
        """The text of some ids; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.vocab[i] for i in ids).decode("utf-8", errors="replace")

    def state(self):
        return {
            "kind": self.kind,
            "pattern": self.pattern,
            "special_tokens": list(self.special_tokens),
            "merges": [list(pair) for pair in self.merges],
        }

    @classmethod
    def from_state(cls, state):
        tokenizer = cls(state["pattern"])
        merges = {tuple(pair): 256 + i for i, pair in enumerate(state["merges"])}
        tokenizer.set_merges(merges, state["special_tokens"])
        return tokenizer

    def save(self, path):
        """Write the tokenizer as JSON, whole or not at all."""
        save_state(self, path)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote. Raises UserError if the file is no tokenizer of this kind."""
        return cls.from_state(load_state(path, cls.kind))


class CharTokenizer:
    """One token per character of the training text, in the order of their code points, then end of text."""

    kind = "char"

    def __init__(self, text_or_texts):
        texts = [text_or_texts] if isinstance(text_or_texts, str) else text_or_texts
        seen = set()
        for text in texts:
            seen.update(text)
        self.characters = sorted(seen)
        self.ids = {character: i for i, character in enumerate(self.characters)}
        self.end_of_text = len(self.characters)
        self.vocab_size = len(self.characters) + 1

    def encode(self, text, **special):
        """Token ids of a text. Raises UserError at a character that training never saw."""
        try:
            return [self.ids[character] for character in text]
        except KeyError as error:
            known = f"the {len(self.ids)} of this tokenizer"
            raise UserError(f"the character {error} is none of {known}: leave it out") from error

    def decode(self, ids):
        return "".join(END_OF_TEXT if i == self.end_of_text else self.characters[i] for i in ids)

    def state(self):
        return {"kind": self.kind, "characters": "".join(self.characters)}

    @classmethod
    def from_state(cls, state):
        return cls(state["characters"])

    def save(self, path):
        save_state(self, path)


class TiktokenTokenizer:
    """One of OpenAI's encodings, such as o200k_base, behind the same few methods."""

    kind = "tiktoken"

    def __init__(self, name):
        self.name = name
        try:
            self.encoding = tiktoken.get_encoding(name)
        except ValueError as error:
            known = ", ".join(tiktoken.list_encoding_names())
            raise UserError(f"tiktoken has no encoding '{name}': choose -m from {known}") from error
        except OSError as error:  # requests' errors are OSErrors
            raise UserError(
                f"tiktoken can't download the vocabulary of {name}: set TIKTOKEN_CACHE_DIR to a folder that holds it,"
                " or take -t tokenizer, which needs no download"
            ) from error
        self.encode = self.encoding.encode
        self.decode = self.encoding.decode
        self.vocab_size = self.encoding.n_vocab
        self.end_of_text = self.encoding.eot_token

    def state(self):
        return {"kind": self.kind, "name": self.name}

    @classmethod
    def from_state(cls, state):
        return cls(state["name"])


KINDS = {kind.kind: kind for kind in (BPETokenizer, CharTokenizer, TiktokenTokenizer)}


def from_state(state):
    """Make the tokenizer again of which a checkpoint holds the state."""
    return KINDS[state["kind"]].from_state(state)


def save_state(tokenizer, path):
    with replacing(path) as beside:
        beside.write_text(json.dumps(tokenizer.state(), ensure_ascii=False), encoding="utf-8")


def load_state(path, kind):
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no tokenizer {path}: train one with 01_tokenizer/train.py, or leave out -m")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        found = state["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged or no tokenizer: train one with 01_tokenizer/train.py") from error
    if found != kind:
        raise UserError(f"{path} is a tokenizer of the kind '{found}': use it with -t {found}")
    return state


def load_tokenizer(kind, model):
    """What -t and -m name: ("tiktoken", "o200k_base"), ("tokenizer", path) or ("char", path)."""
    if kind == "tiktoken":
        return TiktokenTokenizer(model)
    return KINDS[kind].from_state(load_state(model, kind))
