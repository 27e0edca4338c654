"""Two sentences, and whether the second follows the first: what BERT was trained on beside hidden words.

A pair is [CLS] first [SEP] second [SEP]; a row holds as many as fit, and none sees another, so that little is padding.
Shapes: B rows, T positions.
"""

import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from masking import mask_tokens
from packing import fill_rows

SHORT = 0.1  # of the pairs are shorter than there is room, as what is asked later will be


def documents_of(tokens, marks):
    """The documents of a text, each a list of sentences, which are lists of ids; a sentence ends where a line does."""
    documents = [[]]
    tokens = np.asarray(tokens, dtype=np.int64)
    for sentence in np.split(tokens, np.flatnonzero(marks.ends[tokens] | marks.special[tokens]) + 1):
        words = sentence[~marks.special[sentence]].tolist()
        if words:
            documents[-1].append(words)
        if len(words) < len(sentence):
            documents.append([])
    return [document for document in documents if document]


def trimmed(first, second, room, random):
    """Both, with no more than `room` tokens together: the longer one loses them at its beginning or its end."""
    first, second = list(first), list(second)
    while len(first) + len(second) > room:
        longer = first if len(first) > len(second) else second
        longer.pop(0 if random.random() < 0.5 else -1)
    return first, second


def sentence_pairs(documents, room, random):
    """[(first, second, follows)]: ids that fill `room` tokens together, and 0 if the second follows, 1 if it does not.

    A piece of a document is cut at random between two of its sentences. Half of the time its second part gives way to
    a piece of another document, and is gone on with later.
    Devlin et al. 2018, appendix A.2, and the published create_pretraining_data.py.
    """
    pairs = []
    for number, document in enumerate(documents):
        at = 0
        while at < len(document):
            wanted = room if random.random() >= SHORT else random.integers(2, room + 1)
            end, size = at, 0
            while end < len(document) and size < wanted:
                size += len(document[end])
                end += 1
            cut = random.integers(at + 1, end) if end > at + 1 else end
            first, second = sum(document[at:cut], []), sum(document[cut:end], [])
            follows = int(len(documents) > 1 and (not second or random.random() < 0.5))
            if follows:
                other = documents[(number + random.integers(1, len(documents))) % len(documents)]
                second = sum(other[random.integers(len(other)) :], [])[:room]
                end = cut
            at = end
            if second:
                pairs.append((*trimmed(first, second, wanted, random), follows))
    return pairs


def packed_pairs(rows, marks, block_size):
    """Rows, each of pairs that fit into it together -> ids, positions, mask, segments, follows.

    All (B, T) but mask (B, 1, T, T), which is True within a pair; follows is -100 but at each [CLS].
    """
    shape = len(rows), block_size
    ids, positions, segments, number = np.full(shape, marks.pad), *np.zeros((3, *shape), dtype=np.int64)
    follows = np.full(shape, -100)
    for b, row in enumerate(rows):
        at = 0
        for n, (first, second, follow) in enumerate(row, 1):
            tokens = [marks.cls, *first, marks.sep, *second, marks.sep]
            piece = slice(at, at + len(tokens))
            ids[b, piece], positions[b, piece], number[b, piece] = tokens, range(len(tokens)), n
            segments[b, at + len(first) + 2 : piece.stop], follows[b, at] = 1, follow
            at = piece.stop
    mask = (number[:, :, None] == number[:, None, :])[:, None]
    return ids, *map(torch.from_numpy, (positions, mask, segments, follows))


def pair_batches(documents, marks, batch_size, block_size, seed, rate=0.15, kind="token"):
    """step -> (inputs, targets, positions, mask, segments, follows); all pairs come once, then others are made."""

    @lru_cache(maxsize=2)
    def rows(epoch):
        random = np.random.default_rng((seed, epoch, 16))
        pairs = sentence_pairs(documents, block_size - 3, random)
        random.shuffle(pairs)
        return [[pairs[n] for n in row] for row in fill_rows([len(a) + len(b) + 3 for a, b, _ in pairs], block_size)]

    def batch(step):
        per_epoch = max(1, len(rows(0)) // batch_size)  # later epochs may have some rows more or less
        epoch, first = divmod(step, per_epoch)
        chosen = [rows(epoch)[i % len(rows(epoch))] for i in range(first * batch_size, (first + 1) * batch_size)]
        ids, *rest = packed_pairs(chosen, marks, block_size)
        return *mask_tokens(ids, marks, rate, kind, np.random.default_rng((seed, step, 15))), *rest

    return batch


def held_out_pairs(documents, marks, batch_size, block_size, most=40):
    """Some batches of pairs, hidden in the same way each time."""
    batch = pair_batches(documents, marks, batch_size, block_size, seed=15)
    rows = sum(len(sentence) for document in documents for sentence in document) // block_size
    return [batch(step) for step in range(max(1, min(most, rows // batch_size)))]
