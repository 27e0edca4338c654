"""Vectors of n-grams: each sees its n tokens and no other, in training as in writing."""

import pytest
import sampling
import torch
from fast_decode import FastDecode
from gpt import FAMILIES, GPT, GPTConfig
from key_value_cache import left_pad


def make(longest=3, rows=997, **parts):
    torch.manual_seed(0)
    model = GPT(GPTConfig(20, 16, 12, 2, 1, ngram_longest=longest, ngram_rows=rows, **parts)).eval()
    torch.nn.init.normal_(model.ngram_embedding.table.weight)
    return model


def test_the_sum_of_the_vectors_of_all_ngrams():
    table = make(4).ngram_embedding
    ids = torch.randint(20, (2, 10))
    rows = table.rows_of(ids, torch.arange(10))
    assert rows.shape == (2, 10, 3) and (rows // 997 == torch.arange(3)).all()
    assert torch.allclose(table(ids, torch.arange(10)), table.table.weight[rows].sum(2))
    for n in (2, 3, 4):
        for b, t in ((0, 5), (1, 9)):
            piece = ids[None, b, t - n + 1 : t + 1]
            places = torch.arange(t - n + 1, t + 1)
            assert table.rows_of(piece, places)[0, -1, n - 2] == rows[b, t, n - 2], "does it look further?"
            for i in range(n):
                other = piece.clone()
                other[0, i] = (other[0, i] + 1) % 20
                assert table.rows_of(other, places)[0, -1, n - 2] != rows[b, t, n - 2], "and on each of them"


def test_collisions_are_rare():
    pairs = torch.cartesian_prod(torch.arange(20), torch.arange(20))  # (400, 2)
    rows = make(2, rows=100_003).ngram_embedding.rows_of(pairs, torch.arange(2))[:, 1, 0]
    assert len(rows.unique()) >= 398


def test_a_document_begins_without_what_was_before_it():
    table = make().ngram_embedding
    ids = torch.randint(20, (1, 8))
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])
    together = table(ids, positions)
    assert torch.equal(together[:, 4:], table(ids[:, 4:], positions[:, 4:]))
    assert not torch.equal(together[:, 4:], table(ids, torch.arange(8))[:, 4:])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cache_changes_nothing(family):
    model = make(**FAMILIES[family])
    prompts = [[1, 2, 3, 4], [5]]
    ids, padding = left_pad(prompts)
    cache = model.new_cache(2, 12, padding)
    with torch.no_grad():
        logits = model.head(model.hidden(ids, cache=cache)[:, -1])
        texts = [list(prompt) for prompt in prompts]
        for _ in range(5):
            for row, text in zip(logits, texts):
                expected = model(torch.tensor([text]))[0][0, -1]
                assert (row - expected).abs().max() < 1e-5, "is the n-gram at the first token without the padding?"
                text.append(row.argmax().item())
            new = torch.tensor([[text[-1]] for text in texts])
            logits = model.head(model.hidden(new, cache=cache)[:, -1])


def test_the_fast_form_writes_the_same():
    model = make()
    ids = torch.randint(20, (2, 3))
    expected = sampling.generate(model, ids, 25, temperature=0)  # beyond block_size, too
    assert torch.equal(sampling.generate(FastDecode(model), ids, 25, temperature=0), expected)


def test_a_later_token_never_changes_an_earlier_logit():
    model = make()
    ids = torch.randint(20, (1, 10))
    changed = ids.clone()
    changed[0, 6] = (ids[0, 6] + 1) % 20
    same = (model(ids)[0] - model(changed)[0]).abs().amax(-1)[0] < 1e-6
    assert same.tolist() == [True] * 6 + [False] * 4


def test_dropout_leaves_out_whole_vectors_in_training_only():
    table = make(2).ngram_embedding
    ids, places = torch.randint(20, (50, 10)), torch.arange(10)
    whole = table.eval()(ids, places)
    table.dropout = 0.3
    assert torch.equal(table(ids, places), whole)
    ratio = table.train()(ids, places) / whole
    gone = (ratio == 0).all(-1)
    assert gone.float().mean() == pytest.approx(0.3, abs=0.08)
    assert ratio[~gone].allclose(torch.tensor(1 / 0.7))
