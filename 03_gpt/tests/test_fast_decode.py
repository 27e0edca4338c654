"""The layout for writing gives what the model gives."""

from dataclasses import replace

import pytest
import torch
from fast_decode import FastDecode, Product, as_packed, as_rows, as_vector, pack
from gpt import GPT, GPTConfig
from key_value_cache import left_pad
from sampling import generate

GPT2 = GPTConfig(50, 32, 24, 4, 3)
LLAMA = replace(GPT2, positions="rotary", norm="rms_norm", attention="grouped_query", feed_forward="swiglu",
                bias="none", key_value_head_count=2)
KINDS = {
    "gpt2": GPT2,
    "rotary, all biases": replace(GPT2, positions="rotary"),
    "no biases": replace(GPT2, bias="none", feed_forward="relu2", tied_head=False),
    "llama": LLAMA,
    "qwen 2": replace(LLAMA, bias="query_key_value"),
    "qwen 3": replace(LLAMA, qk_norm=True, head_size=16),
    "mistral": replace(LLAMA, window=5, rotary_interleaved=True),
}


@pytest.fixture(params=KINDS)
def model(request):
    torch.manual_seed(0)
    model = GPT(KINDS[request.param]).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("padded", [False, True])
def test_each_step_equals_the_models_own(model, padded):
    prompts = [[5, 6, 7, 8], [9, 10]] if padded else [[5, 6, 7, 8]]
    ids, padding = left_pad(prompts)
    padding = padding if padded else None
    with torch.no_grad():
        fast = FastDecode(model)
        ours, theirs = (model.new_cache(len(prompts), 20, padding) for _ in range(2))
        for step in range(6):
            expected = model.head(model.hidden(ids, cache=theirs)[:, -1])
            logits = fast.head(fast.hidden(ids, cache=ours)[:, -1])
            assert torch.allclose(logits, expected, atol=1e-4 * expected.abs().max()), f"step {step}"
            ids = expected.argmax(-1, keepdim=True)


def test_it_writes_what_the_model_writes_beyond_its_block_too(model):
    ids = torch.randint(50, (2, 4))
    expected = generate(model, ids, 40, temperature=0)
    assert torch.equal(generate(FastDecode(model), ids, 40, temperature=0), expected)


def test_half_precision_keeps_exact_positions():
    torch.manual_seed(0)
    fast = FastDecode(GPT(LLAMA), torch.bfloat16)
    assert fast.head_weight.dtype == torch.bfloat16 and fast.model.blocks[0].attention.rotary.cos.dtype == torch.float32
    assert generate(fast, torch.randint(50, (1, 4)), 10, temperature=0).shape == (1, 14)
    assert fast.new_cache(1)[0].stored[0].dtype == torch.bfloat16


@pytest.mark.parametrize("bias", [True, False])
def test_all_ways_to_multiply_are_the_same(bias):
    torch.manual_seed(0)
    weight, bias = torch.randn(12, 8), torch.randn(12) if bias else None
    for rows in (1, 5):
        x = torch.randn(rows, 1, 8)
        expected = as_rows(x, weight, bias)
        assert torch.allclose(as_packed(x, pack(weight), bias), expected, atol=1e-6)
        assert torch.allclose(Product([weight], [bias])(x), expected, atol=1e-6)
    assert torch.allclose(as_vector(x[:1], weight, bias), expected[:1], atol=1e-6)


def test_what_has_no_fast_form_is_said_in_words():
    for config in (replace(GPT2, expert_count=4), replace(LLAMA, attention="latent", rotary_size=4)):
        with pytest.raises(ValueError, match="no fast form"):
            FastDecode(GPT(config))
