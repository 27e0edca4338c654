"""Rows of a text with a part hidden: [CLS] text [SEP]. A batch is (inputs, targets), each (B, T)."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from batches import shuffled_batches
from masking import mask_tokens


def framed(pieces, marks):
    """(B, T - 2) -> (B, T): [CLS] text [SEP]."""
    cls, sep = (np.full((len(pieces), 1), each) for each in (marks.cls, marks.sep))
    return np.concatenate([cls, np.asarray(pieces), sep], axis=1)


def masked_batches(tokens, marks, batch_size, block_size, seed, rate=0.15, kind="token"):
    """step -> (inputs, targets); each piece of the text comes once before any comes again, and is hidden anew then."""
    pieces = shuffled_batches(tokens, batch_size, block_size - 2, seed)

    def batch(step):
        rows = framed(pieces(step)[0], marks)
        return mask_tokens(rows, marks, rate, kind, np.random.default_rng((seed, step, 15)))

    return batch


def held_out_batches(tokens, marks, batch_size, block_size, rate=0.15, most=20_000):
    """[(inputs, targets)] of the beginning of a text, hidden in the same way each time, token by token."""
    length = block_size - 2
    count = min(len(tokens), most) // length
    rows = framed(np.array(tokens[: count * length], dtype=np.int64).reshape(count, length), marks)
    random = np.random.default_rng(15)
    return [mask_tokens(rows[i : i + batch_size], marks, rate, random=random) for i in range(0, count, batch_size)]
