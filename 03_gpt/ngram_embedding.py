"""Memory for what a few tokens in a row mean: tables of vectors, looked up by the last 2, 3, ... tokens together.

Shapes: B sequences, T positions, C = embedding size.
"""

import torch
from torch import nn


class NGramEmbedding(nn.Module):
    """Token ids (B, T) -> the sum of the vectors of the n-grams that end at each, of 2 to `longest` tokens (B, T, C).

    Each length has a table of so many rows, all of them in one `table`; the row is a hash of the tokens, and n-grams
    that meet there by chance share a vector. A token costs longest - 1 rows, however many there are: for an optimizer
    that makes use of it, set `table.sparse`. In training a share `dropout` of the vectors is left out.
    Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification", section 2.2, has hashed n-grams; in language
    models: Huang et al. 2025, "Over-Tokenized Transformer", section 3.
    """

    cached_sizes = ((1, 1),)  # what a KeyValueCache keeps: the ids themselves

    def __init__(self, vocab_size, embedding_size, longest, rows, dropout=0.0):
        super().__init__()
        self.vocab_size, self.longest, self.rows, self.dropout = vocab_size, longest, rows, dropout
        self.table = nn.Embedding((longest - 1) * rows, embedding_size)

    def rows_of(self, ids, positions, cache=None):
        """(B, T, longest - 1): the row of each n-gram that ends at a token; what is before position 0 counts as one."""
        T = ids.shape[1]
        past = ids if cache is None else cache.append(ids[:, None, :, None])[0][:, 0, :, 0]  # (B, S)
        past = nn.functional.pad(past, (self.longest - 1, 0))
        key, found = ids, []
        for back in range(1, self.longest):
            end = past.shape[1] - back
            earlier = torch.where(positions >= back, past[:, end - T : end] + 1, 0)
            key = key * (self.vocab_size + 1) + earlier  # too large for 64 bits, it wraps
            found.append((back - 1) * self.rows + key * 2654435761 % 4294967291 % self.rows)
        return torch.stack(found, dim=-1)

    def forward(self, ids, positions, cache=None):
        vectors = self.table(self.rows_of(ids, positions, cache))  # (B, T, longest - 1, C)
        if self.training and self.dropout:
            kept = torch.rand(vectors.shape[:-1], device=vectors.device) >= self.dropout
            vectors = vectors * (kept / (1 - self.dropout))[..., None]
        return vectors.sum(-2)
