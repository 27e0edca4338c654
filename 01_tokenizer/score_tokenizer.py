"""The byte-pair encoding of SentencePiece, which Llama 1 and 2 use: no cuts, and scores instead of ranks.

Kudo and Richardson 2018, "SentencePiece: A simple and language independent subword tokenizer". It
differs from GPT-2's in three ways: spaces are ordinary characters, of which one is put before the
text; merging begins with characters, and one that is no token is spelled out in bytes; and of all
neighbours whose joint text is a token the one with the highest score is merged.
"""

import re
from collections.abc import Collection

from bpe_encode import merge_by_rank
from tokenizer_base import Tokenizer
from word_patterns import well_formed

BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class ScoreTokenizer(Tokenizer):
    kind = "scores"

    def __init__(self, state):
        """Of `vocabularies.scores_state`: `tokens` are texts by id, "<0x0A>" for a byte."""
        self.as_given, tokens, special_tokens = state, state["tokens"], state["special_tokens"]
        self.scores, self.special_tokens = state["scores"], special_tokens
        self.end_of_text, self.dummy_prefix = state["end_of_text"], state["dummy_prefix"]
        self.vocab = {i: bytes([int(b[1], 16)]) if (b := BYTE.fullmatch(text)) else text.encode("utf-8")
                      for i, text in enumerate(tokens)}
        byte_tokens = {i for i, text in enumerate(tokens) if BYTE.fullmatch(text)}
        self.byte_ids = {self.vocab[i]: i for i in byte_tokens}
        left_out = byte_tokens | set(special_tokens.values())
        self.ids = {token: i for i, token in self.vocab.items() if i not in left_out}
        self.vocab |= dict.fromkeys(special_tokens.values(), b"")
        self.vocab_size = len(tokens)
        if len(self.byte_ids) < 256 or len(self.scores) < len(tokens) or self.end_of_text not in self.vocab:
            raise ValueError("a byte, a score or the end of text is missing")

    def merge_of(self, pair):
        """(rank, id) of the token that two neighbours make together, or None."""
        if None not in pair and (joint := self.ids.get(self.vocab[pair[0]] + self.vocab[pair[1]])) is not None:
            return -self.scores[joint], joint

    def encode(self, text, allowed_special: Collection[str] = frozenset(), disallowed_special: Collection[str] = "all"):
        """Token ids of a text, without <s>. Special tokens have no text here, so none is read out of one."""
        ids = []
        for character in self.dummy_prefix + well_formed(text) if text else "":
            data = character.encode("utf-8")
            ids += [self.ids[data]] if data in self.ids else [self.byte_ids[bytes([byte])] for byte in data]
        return merge_by_rank(ids, self.merge_of)

    @classmethod
    def from_state(cls, state):
        return cls(state)
