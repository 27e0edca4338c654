"""The tokens that only BERT needs, [PAD], [CLS], [SEP] and [MASK], and which tokens make a word together.

A row is [CLS] text [SEP], or [CLS] text [SEP] text [SEP].
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import tokenizer as byte_pairs
import vocabularies
from flags import UserError
from prepare import ensure_tokenizer, is_prepared, read_meta
from wordpiece import WordPieceTokenizer

NAMES = "[PAD]", "[CLS]", "[SEP]", "[MASK]"


def teach_to_mask(tokenizer):
    """The tokenizer with the four tokens, behind those that it has. Raises UserError if it can't have them."""
    if tokenizer.kind == "tiktoken":
        tokenizer = byte_pairs.BPETokenizer.from_tiktoken(tokenizer.name)
    if tokenizer.kind == "char":
        raise UserError("a tokenizer of characters has no [MASK]: take -t tokenizer or tiktoken")
    state = tokenizer.state()
    new = [name for name in NAMES if name not in state["special_tokens"]]
    special = state["special_tokens"] | {name: tokenizer.vocab_size + i for i, name in enumerate(new)}
    return tokenizer.from_state(state | {"special_tokens": special}) if new else tokenizer


def from_state(state):
    """The tokenizer of a checkpoint: WordPiece, or one of chapter 1's. Raises UserError if it is damaged."""
    if state.get("kind") != "wordpiece":
        return byte_pairs.from_state(state)
    try:
        return WordPieceTokenizer.from_state(state)
    except vocabularies.DAMAGE as error:
        raise UserError("its tokenizer is damaged, or of an older version of this course: train it again") from error


def choose_tokenizer(args, state=None):
    """The tokenizer of a checkpoint, of a prepared folder, or that -t and -m name, with the four tokens.

    -m may be BERT's own: a vocab.txt, or a model's folder that has one.
    """
    model = args.typed.get("tokenizer_model")
    if state is not None:
        if "tokenizer" in args.typed or model:
            raise UserError(f"-t and -m are known to {args.load_model}: leave them out")
        return from_state(state)
    if is_prepared(args.data):
        return teach_to_mask(from_state(read_meta(args.data)["tokenizer"]))
    if model and (Path(model).name == "vocab.txt" or (Path(model) / "vocab.txt").is_file()):
        return WordPieceTokenizer.load(model)
    return teach_to_mask(ensure_tokenizer(args.tokenizer, model, args.data))


@dataclass
class Marks:
    """What masking and batches must know of a vocabulary of V tokens."""

    pad: int
    cls: int
    sep: int
    mask: int
    special: np.ndarray  # (V,) True: never hidden
    opens: np.ndarray  # (V,) True: can go on with a word
    closes: np.ndarray  # (V,) True: a word can go on behind it
    ends: np.ndarray  # (V,) True: a line, or in WordPiece, which knows no lines, a sentence ends with it

    @classmethod
    def of(cls, tokenizer):
        """Raises UserError if the tokenizer lacks one of the four tokens."""
        special = tokenizer.special_tokens
        for name in NAMES:
            if name not in special:
                raise UserError(f"its tokenizer has no {name}: it is no BERT's")
        marks, word_piece = np.zeros((4, tokenizer.vocab_size), dtype=bool), tokenizer.kind == "wordpiece"
        marks[0, list(special.values())] = True
        for i, token in tokenizer.vocab.items():
            text = token.decode("utf-8", errors="replace")
            if word_piece:
                marks[1:, i] = text.startswith("##"), True, text in (".", "!", "?")
            else:
                marks[1:, i] = text[:1].isalnum(), text[-1:].isalnum(), text.endswith("\n")
        return cls(*(special[name] for name in NAMES), *marks)

    def words(self, ids):
        """(B, T) -> (B, T): the number of the word within its row that each token is of, counted from 0.

        The tokens "the", " hat", "s", "." -> 0, 1, 1, 2.
        """
        begins = ~(self.opens[ids[:, 1:]] & self.closes[ids[:, :-1]] & ~self.special[ids[:, :-1]])
        return np.pad(begins, ((0, 0), (1, 0))).cumsum(1)
