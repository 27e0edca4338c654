"""Rows of several examples: each is treated as if it were alone, and none is lost."""

import packing
import pytest
import torch
from gpt import FAMILIES, GPT, GPTConfig


def some_examples(count=9, seed=0, vocab_size=50):
    """Random (ids, counted) of 2 to 12 tokens."""
    generator = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    lengths = [number(2, 13) for _ in range(count)]
    return [([number(1, vocab_size) for _ in range(n)], [False, *(number(0, 2) == 1 for _ in range(n - 2)), True])
            for n in lengths]


def test_rows_are_filled_in_turn():
    assert packing.fill_rows([5, 3, 4, 2], 8) == [[0, 1], [2, 3]]
    assert packing.fill_rows([5, 4, 3, 4], 8) == [[0, 2], [1, 3]], "a later example may go into an earlier row"
    assert packing.fill_rows([], 8) == []


def test_a_packed_row_written_out():
    batch = packing.packed([[([1, 2, 3], [False, False, True]), ([4, 5], [False, True])]], 5)
    ids, targets, positions, mask = batch
    assert ids.tolist() == [[1, 2, 4, 0, 0]]
    assert targets.tolist() == [[-100, 3, 5, -100, -100]], "what is asked and what is padding must not count"
    assert positions.tolist() == [[0, 1, 0, 0, 0]]
    assert mask[0, 0].long().tolist() == [
        [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_packed_loss_is_that_of_each_example_alone(family):
    torch.manual_seed(0)
    model = GPT(GPTConfig(50, 32, 24, 4, 2, **FAMILIES[family])).double().eval()
    for w in model.parameters():
        torch.nn.init.normal_(w, std=0.3)
    examples = some_examples()
    rows = [[examples[n] for n in row] for row in packing.fill_rows([len(ids) - 1 for ids, _ in examples], 24)]
    assert len(rows) < len(examples)
    _, together = model(*packing.packed(rows, 24))
    total = count = 0
    for ids, counted in examples:
        targets = torch.tensor([ids[1:]]).masked_fill(~torch.tensor([counted[1:]]), -100)
        _, loss = model(torch.tensor([ids[:-1]]), targets)
        total, count = total + loss * sum(counted[1:]), count + sum(counted[1:])
    assert torch.allclose(together, total / count, rtol=1e-6), "does an example see its neighbours?"


def test_every_example_comes_once_before_any_comes_again():
    examples = [([i, i, 99], [False, True, True]) for i in range(1, 11)]
    batch = packing.packed_batches(examples, 2, 4, seed=1)  # two examples a row, four a batch

    def seen(*steps):
        return [i for step in steps for i in batch(step)[0].flatten().tolist()[::2]]

    first = seen(0, 1, 2)
    assert sorted(first[:10]) == list(range(1, 11)) and first[:10] != list(range(1, 11))
    assert sorted(first[10:] + seen(3, 4)) == list(range(1, 11))
    again = packing.packed_batches(examples, 2, 4, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(again(4), batch(4))), "of (seed, step) alone"
    assert not torch.equal(packing.packed_batches(examples, 2, 4, seed=2)(0)[0], batch(0)[0])
