"""The report's formulas equal torch's, and attention under any mask equals the fused one."""

import math

import pytest
import torch
import torch.nn.functional as F
from attend import attend, causal_mask
from for_tests import oracle
from formulas import LayerNorm, attention_weights, softmax


def close(ours, theirs, tolerance=1e-6):
    return (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1)


def test_softmax_equals_torch():
    torch.manual_seed(0)
    for z in (torch.randn(3, 5), 1000 * torch.randn(3, 5), torch.tensor([[0.0, -math.inf, 90.0]])):
        assert torch.allclose(softmax(z), z.softmax(-1)), "is the largest number subtracted first?"
        assert torch.allclose(softmax(z, dim=0), z.softmax(0), equal_nan=True)
    assert torch.allclose(softmax(torch.tensor([0.0, math.log(3)])), torch.tensor([0.25, 0.75]))


def test_layer_norm_equals_torch():
    torch.manual_seed(0)
    ours, theirs = LayerNorm(6), torch.nn.LayerNorm(6)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    for x in (torch.randn(2, 5, 6), 1e-3 * torch.randn(2, 5, 6), 1e3 + torch.randn(2, 5, 6)):
        tolerance = 1e-6 if x.abs().max() < 100 else 1e-3  # of 1000.1234567 float32 keeps four decimals
        assert close(ours(x), theirs(x), tolerance), "is epsilon inside the root? is the variance divided by C?"


def test_formulas_have_the_gradients_of_torch():
    torch.manual_seed(0)
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    norm = LayerNorm(6).double()
    for ours, theirs in ((softmax, lambda z: z.softmax(-1)), (norm, lambda z: F.layer_norm(z, (6,)))):
        assert torch.autograd.gradcheck(ours, x)
        seed = torch.randn(3, 6, dtype=torch.float64)
        assert torch.allclose(*(torch.autograd.grad(f(x), x, seed)[0] for f in (ours, theirs)))


def test_the_scale_keeps_scores_at_deviation_one():
    torch.manual_seed(0)
    q, k = torch.randn(1, 4, 400, 64), torch.randn(1, 4, 400, 64)
    deviation = attention_weights(q, k).log().std(-1).mean().item()
    assert math.isclose(deviation, 1, abs_tol=0.1), "is it divided by the root of the head's size?"


@pytest.mark.parametrize("key_value_heads", [4, 2, 1])
@pytest.mark.parametrize("T", [1, 3, 6])
@pytest.mark.parametrize("heads_of_mask", [None, 1, 4])
def test_plain_equals_fused_under_any_mask(key_value_heads, T, heads_of_mask):
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, T, 8), torch.randn(2, key_value_heads, 6, 8), torch.randn(2, key_value_heads, 6, 5)
    mask = None
    if heads_of_mask:
        mask = torch.rand(2, heads_of_mask, T, 6) < 0.5
        mask[..., 0] = True
    repeated = [each.repeat_interleave(4 // key_value_heads, dim=1) for each in (k, v)]
    expected = F.scaled_dot_product_attention(q, *repeated, mask)
    for fused in (True, False):
        assert close(attend(q, k, v, mask, fused=fused), expected), "does head h look with head h // groups?"


def test_the_window_is_that_of_mistral_in_transformers():
    theirs = oracle("transformers.masking_utils").sliding_window_causal_mask_function(3)
    places = torch.arange(7)
    assert torch.equal(causal_mask(7, 7, window=3), theirs(0, 0, places[:, None], places)), "is oneself counted?"


def test_who_may_look_at_whom():
    assert causal_mask(2, 4).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]], "are the queries the last of the keys?"
    assert causal_mask(4, 4, window=2).int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    padded = causal_mask(3, 3, padding=torch.tensor([0, 2])).int().tolist()
    assert padded == [[[[1, 0, 0], [1, 1, 0], [1, 1, 1]]], [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]]]
    only_middle = torch.tensor([False, True, False])
    assert causal_mask(3, 3, mask=only_middle).int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
