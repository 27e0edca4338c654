"""Every kind of attention: plain equals fused equals who wrote it first, and nothing looks ahead."""

import pytest
import torch
from attention import (
    CausalSelfAttention,
    CrossAttention,
    GroupedQueryAttention,
    MultiHeadAttention,
    SingleHeadAttention,
)
from positions import Rotary, rotary_frequencies


def close(ours, theirs, tolerance=1e-6):
    return (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1)


def rotary(size=8, block_size=16):
    return Rotary(rotary_frequencies(size), block_size)


CAUSAL = {
    "causal": lambda **more: CausalSelfAttention(24, 3, **more),
    "window": lambda **more: CausalSelfAttention(24, 3, window=3, **more),
    "grouped": lambda **more: GroupedQueryAttention(32, 4, 2, rotary=rotary(), **more),
    "multi-query": lambda **more: GroupedQueryAttention(32, 4, 1, rotary=rotary(), qk_norm=True, bias=True, **more),
    "grouped, window": lambda **more: GroupedQueryAttention(24, 4, 2, head_size=8, rotary=rotary(), window=3, **more),
}


@pytest.fixture(params=CAUSAL)
def causal(request):
    torch.manual_seed(0)
    return CAUSAL[request.param]()


def inputs(attention, B=2, T=7):
    C = attention.projection.out_features
    return torch.randn(B, T, C)


# one head, many heads


def test_many_heads_are_a_list_of_single_heads():
    """The report's original keeps its heads in a list, runs one after the other and concatenates."""
    torch.manual_seed(0)
    together = MultiHeadAttention(24, 3, bias=False)
    heads = [SingleHeadAttention(24, 8) for _ in range(3)]
    for name, rows in zip(("query", "key", "value"), together.query_key_value.weight.chunk(3)):
        for head, share in zip(heads, rows.chunk(3)):
            getattr(head, name).weight.data = share
    x, mask = torch.randn(2, 5, 24), torch.rand(2, 1, 5, 5) < 0.7
    mask |= torch.eye(5, dtype=torch.bool)
    for hidden in (None, mask):
        single = None if hidden is None else hidden[:, 0]
        expected = together.projection(torch.cat([head(x, single) for head in heads], dim=-1))
        assert close(together(x, hidden), expected), "are the heads laid side by side in their order?"
        for index, head in enumerate(heads):
            assert close(together.weights(x, hidden)[:, index], head.weights(x, single))


def test_attention_does_not_know_the_order_of_what_it_looks_at():
    torch.manual_seed(0)
    order = torch.randperm(9)
    for attention in (MultiHeadAttention(24, 3), SingleHeadAttention(24, 8)):
        x = torch.randn(2, 9, 24)
        assert close(attention(x[:, order]), attention(x)[:, order]), "without positions a text is a bag of tokens"
    cross = CrossAttention(24, 3)
    x, other = torch.randn(2, 4, 24), torch.randn(2, 9, 24)
    assert close(cross(x, other[:, order]), cross(x, other))
    assert not torch.allclose(CausalSelfAttention(24, 3)(other[:, order])[:, -2], cross(x, other)[:, -2])


@pytest.mark.parametrize("kind", [MultiHeadAttention, CausalSelfAttention])
@pytest.mark.parametrize("fused", [True, False])
def test_self_attention_equals_torch_nn(kind, fused):
    torch.manual_seed(0)
    ours, theirs = kind(24, 3, fused=fused), torch.nn.MultiheadAttention(24, 3, batch_first=True)
    torch.nn.init.normal_(theirs.in_proj_bias)
    state = theirs.state_dict()
    names = {"in_proj_weight": "query_key_value.weight", "in_proj_bias": "query_key_value.bias",
             "out_proj.weight": "projection.weight", "out_proj.bias": "projection.bias"}
    ours.load_state_dict({names[name]: tensor for name, tensor in state.items()})
    x = torch.randn(2, 7, 24)
    future = torch.ones(7, 7, dtype=torch.bool).triu(1) if kind is CausalSelfAttention else None
    expected, weights = theirs(x, x, x, attn_mask=future, average_attn_weights=False)
    assert close(ours(x), expected), "are queries, keys and values in this order? is the scale the head's?"
    assert close(ours.weights(x), weights)


@pytest.mark.parametrize("fused", [True, False])
def test_cross_attention_equals_torch_nn(fused):
    torch.manual_seed(0)
    ours = CrossAttention(24, 3, other_size=10, fused=fused)
    theirs = torch.nn.MultiheadAttention(24, 3, kdim=10, vdim=10, batch_first=True)
    torch.nn.init.normal_(theirs.in_proj_bias)
    state = theirs.state_dict()
    ours.query.load_state_dict({"weight": state["q_proj_weight"], "bias": state["in_proj_bias"][:24]})
    ours.key_value.load_state_dict({"weight": torch.cat([state["k_proj_weight"], state["v_proj_weight"]]),
                                    "bias": state["in_proj_bias"][24:]})
    ours.projection.load_state_dict(theirs.out_proj.state_dict())
    x, other = torch.randn(2, 7, 24), torch.randn(2, 4, 10)
    missing = torch.tensor([[False] * 4, [False, False, True, True]])  # the second sentence has two words
    expected, weights = theirs(x, other, other, key_padding_mask=missing, average_attn_weights=False)
    mask = ~missing[:, None, None]
    assert close(ours(x, other, mask), expected), "are the queries from x, and keys and values from the other?"
    assert close(ours.weights(x, other, mask), weights)
    assert ours(x, other).shape == x.shape, "one answer for each word of the target"


def test_cross_attention_to_oneself_is_self_attention():
    torch.manual_seed(0)
    alone, cross = MultiHeadAttention(24, 3), CrossAttention(24, 3)
    weight, bias = alone.query_key_value.weight, alone.query_key_value.bias
    cross.query.load_state_dict({"weight": weight[:24], "bias": bias[:24]})
    cross.key_value.load_state_dict({"weight": weight[24:], "bias": bias[24:]})
    cross.projection = alone.projection
    x = torch.randn(2, 7, 24)
    assert close(cross(x, x), alone(x))


# looking back only


def test_plain_equals_fused(causal):
    x = inputs(causal)
    fused = causal(x)
    causal.fused = False
    assert close(causal(x), fused), "is the scale that of the head size?"


@pytest.mark.parametrize("fused", [True, False])
def test_a_later_token_changes_no_earlier_output(causal, fused):
    causal.fused = fused
    x = inputs(causal, B=1, T=8)
    changed = x.clone()
    changed[:, 5] += 1
    before, after = causal(x), causal(changed)
    assert torch.equal(before[:, :5], after[:, :5]), "is the mask missing?"
    assert all(not torch.allclose(before[:, t], after[:, t]) for t in (5, 6, 7))


def test_weights_are_probabilities_of_the_past(causal):
    weights = causal.weights(inputs(causal))
    assert weights.shape == (2, causal.head_count, 7, 7)
    assert torch.allclose(weights.sum(-1), torch.ones(2, causal.head_count, 7)) and (weights.triu(1) == 0).all()
    reach = causal.window or 7
    assert (weights.tril(-reach) == 0).all() and (weights.diagonal(1 - reach, -2, -1) > 0).all(), "a window too far?"


def test_outputs_are_mixtures_by_the_weights():
    torch.manual_seed(0)
    attention = CausalSelfAttention(24, 3)
    x = inputs(attention)
    values = attention.heads(x)[2]
    mixed = (attention.weights(x) @ values).transpose(1, 2).flatten(2)
    assert close(attention(x), attention.projection(mixed))


def test_a_mask_can_hide_more():
    torch.manual_seed(0)
    attention = CausalSelfAttention(24, 3)
    x = inputs(attention)
    same_text = torch.tensor([0, 0, 0, 1, 1, 1, 1])  # two texts in one row
    mask = same_text[:, None] == same_text
    for fused in (True, False):
        attention.fused = fused
        apart = torch.cat([attention(x[:, :3]), attention(x[:, 3:])], dim=1)
        assert close(attention(x, mask=mask), apart), "is the mask taken beside the causal one?"
    assert (attention.weights(x, mask=mask)[:, :, 3:, :3] == 0).all()


@pytest.mark.parametrize("fused", [True, False])
def test_dropout_is_off_outside_training(fused):
    torch.manual_seed(0)
    x, other = torch.randn(1, 5, 8), torch.randn(1, 6, 8)
    settings = {"dropout": 0.5, "fused": fused}
    for attention in (MultiHeadAttention(8, 2, **settings), CausalSelfAttention(8, 2, **settings),
                      GroupedQueryAttention(8, 2, 1, **settings), CrossAttention(8, 2, **settings)):
        words = (x, other) if isinstance(attention, CrossAttention) else (x,)
        assert not torch.equal(attention(*words), attention(*words)), "is dropout there in training?"
        attention.eval()
        assert torch.equal(attention(*words), attention(*words))


@pytest.mark.parametrize("fused", [True, False])
def test_gradients_in_float64(fused):
    torch.manual_seed(0)
    turn = Rotary(rotary_frequencies(4), 8)
    x = torch.randn(1, 4, 8, dtype=torch.float64, requires_grad=True)
    for attention in (MultiHeadAttention(8, 2, fused=fused), CausalSelfAttention(8, 2, fused=fused, window=2),
                      CausalSelfAttention(8, 2, fused=fused), SingleHeadAttention(8, 3),
                      GroupedQueryAttention(8, 2, 1, rotary=turn, qk_norm=True, fused=fused)):
        assert torch.autograd.gradcheck(attention.double(), x)
    other = torch.randn(1, 3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(CrossAttention(8, 2, fused=fused).double(), (x, other))


def test_bad_shapes_are_said_in_words():
    for kind in (MultiHeadAttention, CausalSelfAttention, CrossAttention):
        with pytest.raises(ValueError, match="embedding_size 10 must be divisible by head_count 4"):
            kind(10, 4)
    with pytest.raises(ValueError, match="embedding_size 10 must be divisible by head_count 4"):
        GroupedQueryAttention(10, 4, 2)
    with pytest.raises(ValueError, match="head_count 4 must be divisible by key_value_head_count 3"):
        GroupedQueryAttention(32, 4, 3)
    with pytest.raises(ValueError, match="turns vectors of 6 numbers, but a head has 8"):
        GroupedQueryAttention(32, 4, 2, rotary=rotary(6))
    with pytest.raises(ValueError, match="17 tokens are more than the block_size of 16"):
        GroupedQueryAttention(32, 4, 2, rotary=rotary())(torch.zeros(1, 17, 32))
