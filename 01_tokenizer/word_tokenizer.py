"""A text's ids, word by word: special tokens apart, and a memory for words, most of which come again and again.

Byte-pair encoding (tokenizer.py) is one way to find the ids of a word, BERT's WordPiece (05_bert_mlm) another.
"""

import os
from array import array
from collections.abc import Callable, Collection

import numpy as np
import regex
from tokenizer_base import Tokenizer

LARGEST_CACHE = 200_000  # words whose ids are remembered
LONGEST_CACHED = 200  # characters


class WordTokenizer(Tokenizer):
    """What each kind adds is named at the top."""

    words: Callable  # text -> lists of its words, one for each stretch of it
    encode_word: Callable[[bytes], list[int]]
    special_tokens: dict[str, int]
    packed: "PackedWords"

    def pack(self, text, dtype, allowed_special: Collection[str] = frozenset(),
             disallowed_special: Collection[str] = "all"):
        """What `encode` gives, as the bytes of an array; faster than a list, and what files are made of."""
        special = set(self.special_tokens)
        allowed = special if allowed_special == "all" else special & set(allowed_special)
        self.refuse(text, special - allowed if disallowed_special == "all" else set(disallowed_special))
        parts = [text]
        if allowed:
            longest_first = sorted(allowed, key=len, reverse=True)
            parts = regex.split("(" + "|".join(map(regex.escape, longest_first)) + ")", text)
        packed = []
        for i, part in enumerate(parts):
            if i % 2:
                packed.append(self.dtype(self.special_tokens[part]).tobytes())
            else:
                packed += (b"".join(map(self.packed.__getitem__, stretch)) for stretch in self.words(part))
        packed = b"".join(packed)
        return packed if dtype == self.dtype else np.frombuffer(packed, self.dtype).astype(dtype).tobytes()

    def encode(self, text, allowed_special: Collection[str] = frozenset(), disallowed_special: Collection[str] = "all"):
        """Token ids of a text. As tiktoken has it, a special token is never read out of a text unawares.

        `allowed_special` names those that become their id ("all" of them); meeting one of
        `disallowed_special` ("all" others) raises ValueError; what is in neither is ordinary text.
        """
        return np.frombuffer(self.pack(text, self.dtype, allowed_special, disallowed_special), self.dtype).tolist()

    def refuse(self, text, disallowed):
        # one look for what all of them begin with, usually "<|"
        if os.path.commonprefix(list(disallowed)) in text:
            for token in sorted(disallowed):
                if token in text:
                    raise ValueError(
                        f"the text contains the special token {token!r}: allow it, or pass disallowed_special=()"
                    )


class PackedWords(dict):
    """{word: its ids as the bytes of an array}, filled as words come, up to a limit."""

    def __init__(self, tokenizer):
        self.encode_word = tokenizer.encode_word
        self.typecode = "H" if tokenizer.dtype == np.uint16 else "I"

    def __missing__(self, word):
        packed = array(self.typecode, self.encode_word(word.encode("utf-8"))).tobytes()
        if len(self) < LARGEST_CACHE and len(word) <= LONGEST_CACHED:
            self[word] = packed
        return packed
