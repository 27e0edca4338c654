"""Grouped-query attention equals multi-head attention at one end, and Llama's and Qwen's of transformers."""

import math

import pytest
import torch
from attend import causal_mask
from attention import CausalSelfAttention, GroupedQueryAttention
from for_tests import oracle
from positions import Rotary, llama3_frequencies, rotary_frequencies


def close(ours, theirs, tolerance=1e-6):
    return (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1)


def rotary(size=8, block_size=16):
    return Rotary(rotary_frequencies(size), block_size)


def test_as_many_key_value_heads_as_heads_is_multi_head():
    torch.manual_seed(0)
    grouped, multi = GroupedQueryAttention(24, 3, 3), CausalSelfAttention(24, 3, bias=False)
    parts = [grouped.query.weight, grouped.key.weight, grouped.value.weight]
    multi.load_state_dict({"query_key_value.weight": torch.cat(parts), "projection.weight": grouped.projection.weight})
    x = torch.randn(2, 7, 24)
    assert close(grouped(x), multi(x)) and close(grouped.weights(x), multi.weights(x))


def test_fewer_key_value_heads_are_repeated_ones():
    """Ainslie et al. 2023, figure 2: all the heads of a group see one key and one value."""
    torch.manual_seed(0)
    for key_value_heads in (1, 2):
        grouped = GroupedQueryAttention(32, 4, key_value_heads, rotary=rotary())
        multi = GroupedQueryAttention(32, 4, 4, rotary=rotary())
        state = grouped.state_dict()
        for name in ("key.weight", "value.weight"):
            heads = state[name].unflatten(0, (key_value_heads, -1))  # (nkv, hs, C)
            state[name] = heads.repeat_interleave(4 // key_value_heads, dim=0).flatten(0, 1)
        multi.load_state_dict(state)
        x = torch.randn(2, 7, 32)
        assert close(grouped(x), multi(x)), "are the heads of a group neighbours?"


def from_transformers(state):
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "projection",
             "q_norm": "query_norm", "k_norm": "key_norm"}
    return {".".join([names[name.split(".")[0]], name.split(".")[1]]): tensor for name, tensor in state.items()}


SHAPE = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
         "attn_implementation": "eager"}
LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}


FAMILIES = {  # the family's name in transformers, its settings, ours, the size of a head
    "llama": ("Llama", {}, {}, 8),
    "llama3": ("Llama", {}, {}, 8),
    "qwen2": ("Qwen2", {}, {"bias": True}, 8),  # for queries, keys and values, none for the projection
    "qwen3": ("Qwen3", {"head_dim": 12}, {"head_size": 12, "qk_norm": True}, 12),  # heads larger than C / nh
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_grouped_query_attention_equals_transformers(family, fused):
    name, settings, more, head_size = FAMILIES[family]
    torch.manual_seed(0)
    frequencies, turns = rotary_frequencies(head_size, 500.0), {"rope_type": "default", "rope_theta": 500.0}
    if family == "llama3":
        frequencies, turns = llama3_frequencies(frequencies, **LLAMA3), {**turns, "rope_type": "llama3", **LLAMA3}
    config = getattr(oracle("transformers"), name + "Config")(**SHAPE, **settings, rope_parameters=turns)
    module = oracle(f"transformers.models.{name.lower()}.modeling_{name.lower()}")
    theirs = getattr(module, name + "Attention")(config, 0)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = GroupedQueryAttention(32, 4, 2, rotary=Rotary(frequencies, 64), fused=fused, **more)
    ours.load_state_dict(from_transformers(theirs.state_dict()))
    x = torch.randn(2, 40, 32)
    positions = torch.stack([torch.arange(40), torch.randperm(64)[:40].sort().values])  # a shift would not be seen
    cos_sin = getattr(module, name + "RotaryEmbedding")(config)(x, positions)
    hidden = torch.zeros(1, 1, 40, 40).masked_fill(~causal_mask(40, 40), -math.inf)
    expected, weights = theirs(x, position_embeddings=cos_sin, attention_mask=hidden)
    assert close(ours(x, positions), expected, 1e-5), "which numbers are a pair: i and i + hs/2? normed before turned?"
    assert close(ours.weights(x, positions), weights, 1e-5)
