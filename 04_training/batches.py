"""Where batches come from: one text or a mixture of them, across the boundaries of documents or not.

Each function gives step -> (ids, targets, ...), each (B, T); what it draws depends on (seed, step) alone.
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from trainer import random_batches


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
