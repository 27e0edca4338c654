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


def transformers_attention(module, config):
    """A layer's attention of a model of transformers, as a function of x, with everything random in it."""
    layer = getattr(module, [name for name in dir(module) if name.endswith("Attention")
                             and name.startswith(type(config).__name__.removesuffix("Config"))][0])(config, 0)
    turn = getattr(module, type(config).__name__.removesuffix("Config") + "RotaryEmbedding")(config)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)

    def run(x, visible, positions):
        hidden = torch.zeros(visible.shape).masked_fill(~visible, -math.inf)
        return layer(x, position_embeddings=turn(x, positions), attention_mask=hidden)[0]
    return layer, run


def from_transformers(state):
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "projection",
             "q_norm": "query_norm", "k_norm": "key_norm"}
    return {".".join([names[name.split(".")[0]], name.split(".")[1]]): tensor for name, tensor in state.items()}


SHAPE = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
         "attn_implementation": "eager"}
LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("family", ["llama", "llama3", "qwen2", "qwen3"])
def test_grouped_query_attention_equals_transformers(family, fused):
    transformers = oracle("transformers")
    torch.manual_seed(0)
    theta = {"rope_type": "default", "rope_theta": 500.0}
    frequencies, more = rotary_frequencies(8, 500.0), {}
    if family.startswith("llama"):
        if family == "llama3":
            theta = {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3}
            frequencies = llama3_frequencies(frequencies, **LLAMA3)
        module = oracle("transformers.models.llama.modeling_llama")
        config = transformers.LlamaConfig(**SHAPE, rope_parameters=theta)
    elif family == "qwen2":  # biases for queries, keys and values only
        module = oracle("transformers.models.qwen2.modeling_qwen2")
        config, more = transformers.Qwen2Config(**SHAPE, rope_parameters=theta), {"bias": True}
    else:  # heads larger than C / nh, and normalised before they are turned
        module = oracle("transformers.models.qwen3.modeling_qwen3")
        config = transformers.Qwen3Config(**SHAPE, head_dim=12, rope_parameters=theta)
        frequencies, more = rotary_frequencies(12, 500.0), {"head_size": 12, "qk_norm": True}
    layer, theirs = transformers_attention(module, config)
    ours = GroupedQueryAttention(32, 4, 2, rotary=Rotary(frequencies, 64), fused=fused, **more)
    ours.load_state_dict(from_transformers(layer.state_dict()))
    x = torch.randn(2, 40, 32)
    positions = torch.stack([torch.arange(40), torch.randperm(64)[:40].sort().values])  # a shift would not be seen
    expected = theirs(x, causal_mask(40, 40)[None, None], positions)
    assert close(ours(x, positions), expected, 1e-5), "which numbers are a pair: i and i + hs/2? normed before turned?"
