"""Pairs of sentences: made as the original's, packed so that none sees another."""

import numpy as np
import pytest
import torch
from bert_model import BERT, BERTConfig
from bert_tokens import Marks, teach_to_mask
from sentence_pairs import documents_of, packed_pairs, pair_batches, sentence_pairs, trimmed
from tokenizer import BPETokenizer

V = 700


@pytest.fixture(scope="module")
def marks():
    special, flat = np.zeros((2, V), dtype=bool)
    special[:5] = True
    return Marks(0, 1, 2, 3, special, flat, ~flat, flat)


@pytest.fixture(scope="module")
def documents():
    """30 documents of 20 sentences of 3 to 9 tokens: token 10 d + 100 + s tells of the document alone."""
    random = np.random.default_rng(0)
    return [[[100 + 10 * d + s % 10] * random.integers(3, 10) for s in range(20)] for d in range(30)]


def document(ids):
    return {(i - 100) // 10 for i in ids}


def test_pairs_follow_or_come_from_another_document(documents):
    pairs = sentence_pairs(documents, 60, np.random.default_rng(1))
    follows = np.array([follow for *_, follow in pairs])
    assert 0.4 < follows.mean() < 0.6
    for first, second, follow in pairs:
        assert first and second and len(first) + len(second) <= 60
        assert len(document(first)) == len(document(second)) == 1
        assert (document(first) == document(second)) == (follow == 0)
        if not follow:  # the second begins where the first ends, or has lost its beginning, or the first its end
            assert (second[0] - first[-1]) % 10 in range(4)
    short = np.mean([len(first) + len(second) < 45 for first, second, _ in pairs])
    assert 0.05 < short < 0.45, "a tenth is cut short on purpose, and a document's end is short, too"


def test_trimming_leaves_the_longer_one_longer():
    first, second = trimmed([1] * 5, [2] * 50, 20, np.random.default_rng(0))
    assert (first, len(second)) == ([1] * 5, 15)


def test_one_document_alone_has_only_true_pairs():
    pairs = sentence_pairs([[[7, 8]] * 9], 8, np.random.default_rng(0))
    assert pairs and all(second and follow in (0, 1) for _, second, follow in pairs)
    assert not any(follow for *_, follow in pairs), "there is no other document to take a wrong one from"


def test_a_packed_row(marks):
    rows = [[([10, 11], [12], 0), ([13], [14, 15], 1)], [([16], [17], 0)]]
    ids, positions, mask, segments, follows = packed_pairs(rows, marks, 14)
    assert ids.tolist() == [[1, 10, 11, 2, 12, 2, 1, 13, 2, 14, 15, 2, 0, 0], [1, 16, 2, 17, 2] + [0] * 9]
    assert positions[0].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 0]
    assert segments[0].tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0]
    assert follows[0].tolist() == [0] + [-100] * 5 + [1] + [-100] * 7
    assert mask.shape == (2, 1, 14, 14) and mask[0, 0, 0].tolist() == [True] * 6 + [False] * 8


def test_packed_pairs_are_as_if_alone(marks):
    torch.manual_seed(0)
    model = BERT(BERTConfig(V, 32, 24, 4, 2)).eval()
    pairs = [([10, 11], [12], 0), ([13], [14, 15, 16], 1), ([17], [18], 0)]
    alone = []
    with torch.no_grad():
        for pair in pairs:
            ids, *rest, follows = packed_pairs([[pair]], marks, 9)
            alone.append(model.hidden(torch.from_numpy(ids), *rest)[0, : len(pair[0]) + len(pair[1]) + 3])
        ids, *rest, follows = packed_pairs([pairs], marks, 24)
        together = model.hidden(torch.from_numpy(ids), *rest)[0]
        assert torch.allclose(together[:18], torch.cat(alone), atol=1e-5)
        both = model.next_sentence(model.pooled(together[follows[0] != -100]))
        one = torch.stack([model.next_sentence(model.pooled(each[0])) for each in alone])
        assert torch.allclose(both, one, atol=1e-5)


def test_little_is_padding_and_every_batch_is_whole(documents, marks):
    batch = pair_batches(documents, marks, 4, 64, seed=3)
    ids, targets, positions, mask, segments, follows = batch(0)
    assert all(len(part) == 4 for part in (ids, targets, positions, mask, segments, follows))
    padding = np.mean([(batch(step)[0] == 0).float().mean() for step in range(12)])
    assert padding < 0.25
    assert torch.equal(batch(5)[0], pair_batches(documents, marks, 4, 64, seed=3)(5)[0])
    assert not torch.equal(batch(0)[0], batch(400)[0])


def test_documents_of_a_text():
    tokenizer = BPETokenizer()
    tokenizer.train("a line\nanother\n\nthird " * 5, 262)
    tokenizer = teach_to_mask(tokenizer)
    marks = Marks.of(tokenizer)
    ends = [tokenizer.end_of_text]
    ids = tokenizer.encode("a line\nanother") + ends + ends + tokenizer.encode("third\n\nline") + ends
    found = [[tokenizer.decode(sentence) for sentence in document] for document in documents_of(ids, marks)]
    assert found == [["a line\n", "another"], ["third\n\n", "line"]], "a sentence ends where a line does"
