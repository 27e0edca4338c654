"""Causal attention: plain equals fused equals torch.nn, and nothing looks ahead."""

import math

import pytest
import torch
from attention import CausalSelfAttention
from for_tests import refuse, shared, succeed
from one_block import OneBlockModel


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return CausalSelfAttention(embedding_size=24, head_count=3)


def test_plain_equals_fused(attention):
    x = torch.randn(2, 7, 24)
    fused = attention(x)
    attention.fused = False
    assert torch.allclose(attention(x), fused, atol=1e-6), "is the scale that of the head size?"


def test_equals_torch_nn(attention):
    theirs = torch.nn.MultiheadAttention(24, 3, batch_first=True)
    theirs.in_proj_weight.data = attention.query_key_value.weight
    theirs.in_proj_bias.data = attention.query_key_value.bias
    theirs.out_proj.load_state_dict(attention.projection.state_dict())
    x = torch.randn(2, 7, 24)
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    expected, weights = theirs(x, x, x, attn_mask=future, average_attn_weights=False)
    assert torch.allclose(attention(x), expected, atol=1e-6)
    q, k, _ = attention.heads(x)
    assert torch.allclose(attention.weights(q, k), weights, atol=1e-6)


@pytest.mark.parametrize("fused", [True, False])
def test_a_later_token_changes_no_earlier_output(attention, fused):
    attention.fused = fused
    x = torch.randn(1, 8, 24)
    changed = x.clone()
    changed[:, 5] += 1
    before, after = attention(x), attention(changed)
    assert torch.equal(before[:, :5], after[:, :5]), "is the mask missing?"
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_weights_are_probabilities_of_the_past(attention):
    q, k, _ = attention.heads(torch.randn(2, 6, 24))
    weights = attention.weights(q, k)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3, 6)) and (weights.triu(1) == 0).all()


def test_the_scale_keeps_scores_at_deviation_one():
    torch.manual_seed(0)
    attention = CausalSelfAttention(64, 1)
    q, k = torch.randn(1, 1, 400, 64), torch.randn(1, 1, 400, 64)
    weights = attention.weights(q, k)[0, 0, -1].log()
    assert math.isclose(weights.std().item(), 1, abs_tol=0.15), "is it divided by the root of the head size?"


def test_dropout_is_off_outside_training():
    torch.manual_seed(0)
    x = torch.randn(1, 5, 8)
    for fused in (True, False):
        attention = CausalSelfAttention(8, 2, dropout=0.5, fused=fused)
        assert not torch.equal(attention(x), attention(x))
        attention.eval()
        assert torch.equal(attention(x), attention(x))


def test_gradients_in_float64():
    torch.manual_seed(0)
    for fused in (True, False):
        attention = CausalSelfAttention(6, 2, fused=fused).double()
        assert torch.autograd.gradcheck(attention, torch.randn(1, 4, 6, dtype=torch.float64, requires_grad=True))


def test_bad_shapes_are_said_in_words():
    with pytest.raises(ValueError, match="embedding_size 10 must be divisible by head_count 4"):
        CausalSelfAttention(10, 4)


def test_one_block_model_learns_one_batch_by_heart():
    torch.manual_seed(0)
    model = OneBlockModel(vocab_size=20, embedding_size=32, block_size=8, head_count=2)
    ids = torch.randint(20, (4, 9))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(200):
        _, loss = model(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_scripts(tmp_path):
    text = shared("tinyshakespeare/input.txt")
    saved = tmp_path / "a.pt"
    small = (16, 4, 32, 3e-3, 20, 2)
    words = ("02_attention/train.py", "-t", "char", "-d", text, "-s", saved, *small)
    first, second = (succeed(*words).partition("device")[2] for _ in range(2))
    assert first == second, "same seed, same numbers"
    assert "ln(vocabulary size) 4.190" in first and "step 18: validation loss" in first
    assert "checkpoint" in succeed("02_attention/train.py", "-l", saved, "-d", text)
    out = succeed("02_attention/infer.py", "First Citizen:", "-l", saved, "-o", tmp_path / "maps.png")
    assert "head 2: the last token looks most at" in out
    assert (tmp_path / "maps.png").read_bytes()[:4] == b"\x89PNG"
    assert "1 to 32" in refuse("02_attention/infer.py", "x" * 33, "-l", saved)
    assert "contradicts" in refuse("02_attention/train.py", "-l", saved, "-d", text, 32)
    assert "divisible" in refuse("02_attention/train.py", 10, 4, 32, 3e-3, 20, 4)
    assert "no checkpoint" in refuse("02_attention/infer.py", "-l", "missing.pt")
