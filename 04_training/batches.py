"""Where batches come from: one text or a mixture of them, across the boundaries of documents or not.

Each function but the first gives step -> (ids, targets, ...), each (B, T); what is drawn depends on (seed, step) alone.
"""

import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from trainer import random_batches


def in_turn(count, size, seed):
    """step -> `size` numbers below `count`; all come once, in another order each time, before any comes again."""

    @lru_cache(maxsize=2)
    def order(epoch):
        return np.random.default_rng((seed, epoch)).permutation(count).tolist()

    return lambda step: [order(i // count)[i % count] for i in range(step * size, (step + 1) * size)]


def pad_rows(rows, value=0):
    """Lists of numbers -> (B, T), filled up on the right: [[5, 6], [7]] -> [[5, 6], [7, 0]]."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def shuffled_batches(tokens, batch_size, block_size, seed):
    """The text cut into pieces, in random order: each is seen once before any is seen again, cut elsewhere then.

    What is seen for the first time teaches more than what is seen again, and random places meet a part of the text
    twice before they have met all of it.
    """
    count = max(1, (len(tokens) - 1) // block_size - 1)  # one less than there could be: room for another cut
    room = len(tokens) - 1 - count * block_size

    @lru_cache(maxsize=2)
    def starts(epoch):
        random = np.random.default_rng((seed, epoch))
        return random.permutation(count) * block_size + random.integers(room + 1)

    def batch(step):
        places = [divmod(i, count) for i in range(step * batch_size, (step + 1) * batch_size)]
        pieces = [tokens[(at := starts(epoch)[i]) : at + block_size + 1] for epoch, i in places]
        pieces = torch.from_numpy(np.stack(pieces).astype(np.int64))  # (B, T + 1)
        return pieces[:, :-1], pieces[:, 1:]

    return batch


def mixed_batches(texts, weights, batch_size, block_size, seed):
    """Rows from several texts (token arrays); each row's text is drawn with these weights, which need not sum to 1."""
    shares = np.array(weights, dtype=float) / sum(weights)
    batches = [random_batches(tokens, batch_size, block_size, (seed, i)) for i, tokens in enumerate(texts)]

    def batch(step):
        chosen = np.random.default_rng((seed, len(texts), step)).choice(len(texts), size=batch_size, p=shares)
        rows = [batches[i](step) for i in range(len(texts))]
        return tuple(torch.stack([rows[i][part][b] for b, i in enumerate(chosen)]) for part in (0, 1))

    return batch


def within_documents(batch, end_of_text):
    """The same batches with two parts more, so that no token looks beyond the beginning of its own document.

    (ids, targets, positions (B, T), which count from each <|endoftext|>; mask (B, 1, T, T), True within a document).
    <|endoftext|> is what ends a document and what the next one begins with.
    """

    def apart(step):
        ids, targets = batch(step)
        begins = ids == end_of_text  # (B, T)
        document = begins.cumsum(1)
        mask = (document[:, :, None] == document[:, None, :])[:, None]
        places = torch.arange(ids.shape[1]).expand_as(ids)
        return ids, targets, places - torch.where(begins, places, 0).cummax(1).values, mask

    return apart
