"""Text to token ids and back: byte-pair encoding trained here, or a real model's vocabulary.

    tokenizer = BPETokenizer(pattern="cl100k_base")
    tokenizer.train("the cat sat on the mat", vocab_size=260)
    tokenizer.decode(tokenizer.encode("the hat"))  # "the hat"

`load_tokenizer(kind, model)` gives what -t and -m name; all kinds share the methods of
tokenizer_base.py, and `from_state` makes one again of what a checkpoint stores, its `state()`.
"""

import sys
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path

import tiktoken

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
import tokenizer_state
import vocabularies
from bpe_encode import merge_by_rank, merge_in_bulk, merge_word
from bpe_fast import train_fast
from char_tokenizer import CharTokenizer
from flags import UserError
from reading import END_OF_TEXT
from score_tokenizer import ScoreTokenizer
from token_array import SHIFT
from tokenizer_base import Tokenizer, batches, in_processes
from tokenizer_state import ordinary_tokens, trained_state
from word_patterns import PATTERNS, well_formed, words
from word_tokenizer import PackedWords, WordTokenizer

ENDS = (END_OF_TEXT, "<|end_of_text|>", "</s>")  # what end of text is called, here and in Llama's vocabularies
LONG, VERY_LONG = 100, 50_000  # bytes from which another way of merging is faster (bpe_encode.py)


class BPETokenizer(WordTokenizer):
    """Byte-pair encoding as GPT-2 has it: on the bytes of words, so that every text can be encoded.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2. Untrained
    its tokens are the 256 bytes.
    """

    kind = "tokenizer"

    def __init__(self, pattern="cl100k_base", special_tokens=(END_OF_TEXT,)):
        if pattern not in PATTERNS:
            raise ValueError(f"no pattern '{pattern}': choose from {', '.join(PATTERNS)}")
        if isinstance(special_tokens, str) or len(set(special_tokens)) < len(special_tokens) or "" in special_tokens:
            raise ValueError(f"special_tokens {special_tokens!r} must be several texts, each of them once")
        self.set_state(trained_state(pattern, {}, special_tokens))

    def set_state(self, state):
        self.as_given = state
        self.pattern, self.normalization = state["pattern"], state["normalization"]
        self.ignore_merges = state["ignore_merges"]  # a word that is a token is that token
        self.merges = {(left, right): i for left, right, i in state["merges"]}  # in the order of learning
        self.special_tokens = state["special_tokens"]  # {text: id}
        self.vocab = ordinary_tokens(state)  # {id: bytes}
        self.ids = {token: i for i, token in self.vocab.items()}
        self.missing = bytes(byte for byte in range(256) if bytes([byte]) not in self.ids)  # SmolLM2 lacks 21
        self.byte_ids = [self.ids.get(bytes([byte]), 0) for byte in range(256)]
        self.vocab |= {i: text.encode("utf-8") for text, i in self.special_tokens.items()}
        self.vocab_size = max(self.vocab) + 1
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self.made = list(self.merges.values())
        self.packed = PackedWords(self)

    @property
    def end_of_text(self):
        """The id that stands between documents. Raises UserError if the vocabulary has none."""
        for text in ENDS:
            if text in self.special_tokens:
                return self.special_tokens[text]
        raise UserError(f"this tokenizer has no special token that ends a text, such as {END_OF_TEXT}: take another")

    def train(self, text_or_texts, vocab_size, min_count=1, processes=1, report=None):
        """Learn merges until there are `vocab_size` tokens, or no pair occurs `min_count` times.

        Takes one text or an iterable of texts, read once, and counts their words in several processes if
        asked to. `report(left id, right id, new id, count)`, if given, is called at each merge. Raises
        ValueError if vocab_size leaves no room for the 256 bytes and the special tokens.
        """
        smallest = 256 + len(self.special_tokens)
        if not smallest <= vocab_size <= 1_000_000:
            raise ValueError(f"vocab_size {vocab_size} must be at least {smallest}, and at most 1,000,000")
        texts = [text_or_texts] if isinstance(text_or_texts, str) else text_or_texts
        if processes == 1:
            word_counts = count_words(self.pattern, texts)
        else:
            word_counts = Counter()
            for counts in in_processes(partial(count_words, self.pattern), batches(texts), processes):
                word_counts.update(counts)
        word_counts = {word.encode("utf-8"): count for word, count in word_counts.items()}
        merges = train_fast(word_counts, vocab_size - smallest, min_count, report)
        self.set_state(trained_state(self.pattern, merges, self.special_tokens))

    def words(self, text):
        return words(self.pattern, unicodedata.normalize(self.normalization, text) if self.normalization else text)

    def encode_word(self, data):
        """The ids of one word of bytes, by the way of merging that is fastest for its length."""
        if self.ignore_merges and data in self.ids:
            return [self.ids[data]]
        data = data.translate(None, self.missing)
        if len(data) > VERY_LONG and self.in_order():
            codes = {left << SHIFT | right: rank for (left, right), rank in self.ranks.items()}
            return merge_in_bulk(data, self.byte_ids, codes, self.made)
        ids = [self.byte_ids[byte] for byte in data]
        if len(data) > LONG:
            return merge_by_rank(ids, self.merge_of)
        return merge_word(ids, self.ranks, self.made)

    def merge_of(self, pair):
        rank = self.ranks.get(pair)
        return None if rank is None else (rank, self.made[rank])

    def in_order(self):
        """Whether each merge comes after all those that make one of its parts, as `merge_in_bulk` needs."""
        last = {i: rank for rank, i in enumerate(self.made)}
        return all(rank > max(last.get(i, -1) for i in pair) for pair, rank in self.ranks.items())

    @classmethod
    def from_state(cls, state):
        """The tokenizer of a state. Raises ValueError, KeyError or the like where the state is none."""
        tokenizer_state.check(state)
        tokenizer = cls.__new__(cls)
        tokenizer.set_state(state)
        return tokenizer

    @classmethod
    def from_tiktoken(cls, name):
        """OpenAI's vocabulary of that name, such as "cl100k_base". Raises UserError where tiktoken lacks it."""
        return cls.from_state(vocabularies.tiktoken_state(TiktokenTokenizer(name).encoding))

    @classmethod
    def load(cls, path):
        """Read what `save` wrote, or any format of vocabularies.py. Raises UserError if the file is none of them."""
        return load_tokenizer(cls.kind, path)


def count_words(pattern, texts):
    """How often each word occurs in some texts: {word: occurrences}."""
    counts = Counter()
    for text in texts:
        for stretch in words(pattern, text):
            counts.update(stretch)
    return counts


class TiktokenTokenizer(Tokenizer):
    """One of OpenAI's encodings, such as o200k_base, by their own library."""

    kind = "tiktoken"

    def __init__(self, name):
        self.name, self.as_given = name, {"kind": self.kind, "name": name}
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
        self.vocab_size = self.encoding.n_vocab
        self.end_of_text = self.encoding.eot_token

    def pack(self, text, dtype, **special):
        return self.encoding.encode_to_numpy(well_formed(text), **special).astype(dtype).tobytes()

    def decode_bytes(self, ids):
        try:
            return self.encoding.decode_bytes(ids)
        except (KeyError, OverflowError) as error:
            raise ValueError(f"{error} of {self.name}") from error

    @classmethod
    def from_state(cls, state):
        tokenizer = cls(state["name"])
        tokenizer.as_given = state
        return tokenizer


KINDS = {kind.kind: kind for kind in (BPETokenizer, CharTokenizer, TiktokenTokenizer, ScoreTokenizer)}


def from_state(state):
    """Make the tokenizer again of which a checkpoint holds the state. Raises UserError if it holds none."""
    try:
        return KINDS[state["kind"]].from_state(state)
    except vocabularies.DAMAGE as error:
        raise UserError("its tokenizer is damaged, or of an older version of this course: train it again") from error


def load_tokenizer(kind, model):
    """What -t and -m name: ("tiktoken", "o200k_base"), ("tokenizer", path) or ("char", path).

    A tokenizer's path may lead to any format that vocabularies.py reads.
    """
    if kind == "tiktoken":
        return TiktokenTokenizer(model)
    try:
        state = vocabularies.read(model)
        if state["kind"] != kind and (kind, state["kind"]) != ("tokenizer", "scores"):
            raise UserError(f"{model} is a tokenizer of the kind '{state['kind']}', not '{kind}': choose another -t")
        return KINDS[state["kind"]].from_state(state)
    except vocabularies.DAMAGE as error:
        raise UserError(f"{model} is damaged or no tokenizer: train one with 01_tokenizer/train.py") from error
