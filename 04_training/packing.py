"""Several examples in one row of tokens, none of which sees another: no work is lost on padding.

An example is (ids, counted): counted says which of the ids the loss is about. A batch is (ids, targets, positions,
mask): ids (B, T); targets (B, T), each the next id of its own example, or -100 where that does not count; positions
(B, T), which begin at 0 with each example; mask (B, 1, T, T), True within an example.
"""

from functools import cache

import numpy as np
import torch

OPEN_ROWS = 64  # rows that an example may still go into


def fill_rows(lengths, block_size):
    """Put examples of these lengths into rows: [[numbers of the examples]], each example into the first with room.

    [5, 3, 4, 2] with block_size 8 -> [[0, 1], [2, 3]]
    """
    rows, room = [], []
    for number, length in enumerate(lengths):
        start = max(0, len(rows) - OPEN_ROWS)
        at = next((i for i in range(start, len(rows)) if room[i] >= length), len(rows))
        if at == len(rows):
            rows.append([])
            room.append(block_size)
        rows[at].append(number)
        room[at] -= length
    return rows


def packed(rows, block_size):
    """A batch of rows, each a list of examples that fit into block_size tokens together."""
    shape = len(rows), block_size
    ids, targets = torch.zeros(shape, dtype=torch.long), torch.full(shape, -100)
    positions, number = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    for b, row in enumerate(rows):
        at = 0
        for n, (tokens, counted) in enumerate(row, 1):
            length = len(tokens) - 1  # the last one has nothing to predict
            piece, tokens = slice(at, at + length), torch.tensor(tokens)
            ids[b, piece] = tokens[:-1]
            targets[b, piece] = tokens[1:].masked_fill(~torch.tensor(counted[1:]), -100)
            positions[b, piece] = torch.arange(length)
            number[b, piece] = n
            at += length
    return ids, targets, positions, (number[:, :, None] == number[:, None, :])[:, None]


def packed_batches(examples, batch_size, block_size, seed):
    """step -> a batch; all examples come once, in another order each time, before any comes again."""

    @cache
    def rows(epoch):
        order = np.random.default_rng((seed, epoch)).permutation(len(examples)).tolist()
        filled = fill_rows([len(examples[i][0]) - 1 for i in order], block_size)
        return [[examples[order[n]] for n in row] for row in filled]

    def batch(step):
        epoch, wanted = 0, []
        skip = step * batch_size
        while len(wanted) < batch_size:
            these = rows(epoch)
            wanted += these[skip : skip + batch_size - len(wanted)]
            skip, epoch = max(0, skip - len(these)), epoch + 1
        return packed(wanted, block_size)

    return batch
