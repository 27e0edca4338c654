"""One token per character: no merges, a small vocabulary, long sequences."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from flags import UserError
from reading import END_OF_TEXT
from tokenizer_base import Tokenizer


class CharTokenizer(Tokenizer):
    """The characters of the training text in the order of their code points, then end of text."""

    kind = "char"

    def __init__(self, text_or_texts):
        texts = [text_or_texts] if isinstance(text_or_texts, str) else text_or_texts
        seen = set()
        for text in texts:
            seen.update(text)
        self.characters = sorted(seen)
        self.as_given = {"kind": self.kind, "characters": "".join(self.characters)}
        self.ids = {character: i for i, character in enumerate(self.characters)}
        self.end_of_text = len(self.characters)
        self.vocab_size = len(self.characters) + 1
        tokens = [*self.characters, END_OF_TEXT]
        self.vocab = {i: token.encode("utf-8", errors="replace") for i, token in enumerate(tokens)}

    def encode(self, text, **special):
        """Token ids of a text. Raises UserError at a character that training never saw."""
        try:
            return [self.ids[character] for character in text]
        except KeyError as error:
            known = f"the {len(self.ids)} of this tokenizer"
            raise UserError(f"the character {error} is none of {known}: leave it out") from error

    @classmethod
    def from_state(cls, state):
        tokenizer = cls(state["characters"])
        tokenizer.as_given = state
        return tokenizer
