"""Latent attention: plain equals absorbed equals DeepSeek's in transformers; the cache is as small as in the paper."""

import math

import pytest
import torch
from attend import causal_mask
from for_tests import oracle
from key_value_cache import KeyValueCache
from latent_attention import MultiHeadLatentAttention
from positions import Rotary, rotary_frequencies


def latent_attention(**more):
    """Heads of 6 + 4 numbers and values of 5, from a latent vector of 12: all sizes differ."""
    torch.manual_seed(0)
    rotary = Rotary(rotary_frequencies(4), 32, interleaved=True)
    return MultiHeadLatentAttention(24, 3, latent_size=12, head_size=6, rotary=rotary, value_size=5, **more)


QUERIES = pytest.mark.parametrize("query_latent_size", [None, 10], ids=["full queries", "low-rank queries"])


def from_deepseek(state, heads, nope, rope):
    """transformers' names and joint matrices -> the paper's: [q^C; q^R], [c^KV; k^R], [k^C; v^C] per head."""
    ours = {"key_value_norm.weight": state["kv_a_layernorm.weight"], "projection.weight": state["o_proj.weight"]}
    if "q_a_proj.weight" in state:
        ours |= {"query_down.weight": state["q_a_proj.weight"], "query_norm.weight": state["q_a_layernorm.weight"]}
    q = state["q_b_proj.weight" if "q_b_proj.weight" in state else "q_proj.weight"].unflatten(0, (heads, nope + rope))
    ours |= {"query_up.weight": q[:, :nope].flatten(0, 1), "rotary_query.weight": q[:, nope:].flatten(0, 1)}
    down = state["kv_a_proj_with_mqa.weight"]
    ours |= {"key_value_down.weight": down[:-rope], "rotary_key.weight": down[-rope:]}
    up = state["kv_b_proj.weight"].unflatten(0, (heads, -1))
    return ours | {"key_up.weight": up[:, :nope].flatten(0, 1), "value_up.weight": up[:, nope:].flatten(0, 1)}


@QUERIES
@pytest.mark.parametrize("version", ["V2", "V3"])
def test_equals_transformers_deepseek(version, query_latent_size):
    transformers = oracle("transformers")
    name = "deepseek_" + version.lower()
    module = oracle(f"transformers.models.{name}.modeling_{name}")
    config = getattr(transformers, f"Deepseek{version}Config")(
        hidden_size=24, num_attention_heads=3, num_key_value_heads=3, q_lora_rank=query_latent_size, kv_lora_rank=12,
        qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5, max_position_embeddings=32,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager",
    )
    ours = latent_attention(query_latent_size=query_latent_size)
    theirs = getattr(module, f"Deepseek{version}Attention")(config, 0)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(from_deepseek(theirs.state_dict(), 3, 6, 4))
    x, positions = torch.randn(2, 9, 24), torch.stack([torch.arange(9), torch.tensor([0, 1, 4, 5, 9, 12, 20, 21, 30])])
    turn = getattr(module, f"Deepseek{version}RotaryEmbedding")(config)(x, positions)
    hidden = torch.zeros(1, 1, 9, 9).masked_fill(~causal_mask(9, 9), -math.inf)
    expected, weights = theirs(x, position_embeddings=turn, attention_mask=hidden)
    for fused in (True, False):
        ours.fused = fused
        assert torch.allclose(ours(x, positions), expected, atol=1e-5), "interleaved pairs? scale sqrt(hs + r)?"
    assert torch.allclose(ours.weights(x, positions), weights, atol=1e-5)


@QUERIES
def test_absorbed_equals_plain(query_latent_size):
    attention = latent_attention(query_latent_size=query_latent_size)
    x = torch.randn(2, 9, 24)
    padded = KeyValueCache(attention.cached_sizes, 2, 9, padding=torch.tensor([0, 3]))
    mask = torch.rand(2, 3, 9, 9) < 0.7
    parts = *attention.queries(x), *attention.latents(x)
    last = [each[:, :, -2:] for each in parts[:2]]
    for more in ({}, {"cache": padded}, {"mask": mask}):
        plain, absorbed = attention.plain(*parts, **more), attention.absorbed(*parts, **more)
        assert torch.allclose(absorbed, plain, atol=1e-6), "is the scale that of the key, not of the latent vector?"
    assert torch.allclose(attention.absorbed(*last, *parts[2:]), attention.plain(*parts)[:, :, -2:], atol=1e-6)


def test_no_key_or_value_is_written_out_while_decoding(monkeypatch):
    attention = latent_attention()
    cache = KeyValueCache(attention.cached_sizes, 1, 32)
    with torch.no_grad():
        attention(torch.randn(1, 5, 24), cache=cache)
        monkeypatch.setattr(attention, "plain", None)
        monkeypatch.setattr(attention.key_up, "forward", None)
        assert attention(torch.randn(1, 1, 24), cache=cache).shape == (1, 1, 24)


def test_a_later_token_changes_no_earlier_output():
    attention = latent_attention()
    x = torch.randn(1, 8, 24)
    changed = x.clone()
    changed[:, 5] += 1
    before, after = attention(x), attention(changed)
    assert torch.equal(before[:, :5], after[:, :5]), "is the mask missing?"
    assert all(not torch.allclose(before[:, t], after[:, t]) for t in (5, 6, 7))


@pytest.mark.parametrize("form", ["plain", "absorbed"])
def test_gradients_in_float64(form):
    attention = latent_attention(query_latent_size=4).double()
    x = torch.randn(1, 4, 24, dtype=torch.float64, requires_grad=True)

    def outputs(x):
        return getattr(attention, form)(*attention.queries(x), *attention.latents(x))
    assert torch.autograd.gradcheck(outputs, x)


@pytest.mark.parametrize("form", ["plain", "absorbed"])
def test_dropout_acts_in_both_forms(form):
    attention = latent_attention()
    parts = *attention.queries(torch.randn(1, 6, 24)), *attention.latents(torch.randn(1, 6, 24))
    runs = [getattr(attention, form)(*parts, dropout=0.5) for _ in range(2)]
    assert not torch.equal(*runs)


def test_the_cache_of_deepseek_v2_is_as_small_as_the_paper_says():
    """Section 2.1.4, table 1: (d_c + d_h^R) l numbers per token, which with their sizes is 9/2 d_h per layer."""
    with torch.device("meta"):
        rotary = Rotary(rotary_frequencies(64), 16, interleaved=True)
        attention = MultiHeadLatentAttention(5120, 128, 512, 128, rotary, query_latent_size=1536)
    cache = KeyValueCache(attention.cached_sizes, 1, 16, dtype=torch.bfloat16)
    assert cache.bytes_per_token == 2 * 128 * 9 // 2
    # multi-head attention of that shape would keep 2 nh hs numbers
    assert KeyValueCache(((128, 128),) * 2, 1, 16, dtype=torch.bfloat16).bytes_per_token == 2 * 2 * 128 * 128
