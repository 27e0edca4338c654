"""Mixtures of texts in their shares, and documents that do not see each other."""

import batches
import numpy as np
import torch
import trainer
from gpt import FAMILIES, GPT, GPTConfig


def test_shuffled_batches_show_the_whole_text_once_before_any_of_it_again():
    tokens = np.arange(1000, dtype=np.uint16)
    batch = batches.shuffled_batches(tokens, 7, 8, seed=1)
    ids, targets = zip(*(batch(step) for step in range(123 * 3 // 7)))
    assert all(torch.equal(i + 1, t) for i, t in zip(ids, targets)), "labels must be shifted by exactly one"
    rows = torch.cat(ids)[: 123 * 2].view(2, 123, 8)  # two times through: 123 pieces of 8, and room for another cut
    for epoch in rows:
        assert len(epoch.unique()) == 123 * 8, "a token came twice, or never"
        assert not torch.equal(epoch, epoch.sort(0).values), "are the pieces in random order?"
    assert not torch.equal(rows[0], rows[1])
    assert torch.equal(batches.shuffled_batches(tokens, 7, 8, seed=1)(20)[0], ids[20]), "of (seed, step) alone"
    assert not torch.equal(batches.shuffled_batches(tokens, 7, 8, seed=2)(0)[0], ids[0])


def test_the_smallest_text_has_one_piece():
    ids, targets = batches.shuffled_batches(np.arange(9, dtype=np.uint16), 3, 8, seed=0)(5)
    assert ids.tolist() == [list(range(8))] * 3 and targets[0].tolist() == list(range(1, 9))


def test_a_mixture_has_its_shares_and_depends_on_seed_and_step_only():
    texts = [np.full(100, i, np.uint16) for i in range(3)]
    batch = batches.mixed_batches(texts, [0.5, 0.3, 0.2], 400, 8, seed=1)
    ids, targets = batch(7)
    assert ids.shape == targets.shape == (400, 8)
    assert torch.equal(batches.mixed_batches(texts, [5, 3, 2], 400, 8, seed=1)(7)[0], ids)
    assert not torch.equal(batch(8)[0], ids)
    shares = torch.stack([batch(step)[0][:, 0].bincount(minlength=3) for step in range(20)]).sum(0) / 8000
    assert (shares - torch.tensor([0.5, 0.3, 0.2])).abs().max() < 0.02


def test_rows_of_a_mixture_are_pieces_of_one_text():
    texts = [np.arange(100, dtype=np.uint16), np.arange(1000, 1100, dtype=np.uint16)]
    ids, targets = batches.mixed_batches(texts, [1, 1], 50, 8, seed=0)(0)
    assert torch.equal(ids + 1, targets) and (ids[:, 1:] - ids[:, :-1] == 1).all()
    assert not torch.equal(ids[ids < 1000][:8] + 1000, ids[ids >= 1000][:8]), "do texts share their random places?"


def test_documents_do_not_see_each_other():
    """Each document in a batch has the loss that it has alone."""
    END = 0
    tokens = torch.tensor([[END, 5, 6, 7, END, 8, 9, END, 4, 3, 2, 1, 5]])
    ids, targets, positions, mask = batches.within_documents(lambda step: (tokens[:, :-1], tokens[:, 1:]), END)(0)
    assert positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4]]
    for parts in FAMILIES.values():
        torch.manual_seed(0)
        model = GPT(GPTConfig(10, 16, 16, 2, 2, **parts))
        apart = [model(tokens[:, a:b], tokens[:, a + 1 : b + 1])[1] * (b - a) for a, b in ((0, 4), (4, 7), (7, 12))]
        together = model(ids, targets, positions, mask)[1]
        assert abs(together - sum(apart) / 12) < 1e-5
        assert abs(together - model(ids, targets)[1]) > 1e-4, "a model that sees across must differ"


def test_a_piece_that_begins_within_a_document_counts_from_its_first_token():
    tokens = np.array([3, 4, 0, 5, 6, 7], np.uint16)
    batch = batches.within_documents(trainer.random_batches(tokens, 1, 5, seed=0), 0)
    ids, _, positions, mask = batch(0)
    assert ids.tolist() == [[3, 4, 0, 5, 6]] and positions.tolist() == [[0, 1, 0, 1, 2]]
    assert mask.shape == (1, 1, 5, 5) and mask[0, 0, 3].tolist() == [False, False, True, True, True]
