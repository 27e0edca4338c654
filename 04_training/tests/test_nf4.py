"""The 4 bits against bitsandbytes, and what holds of them anyway."""

import gc
import weakref

import nf4
import pytest
import torch
from for_tests import oracle
from gpt import GPT, GPTConfig
from nf4 import Linear4bit, dequantise, float8_values, nf4_values, quantise, quantise_linears
from torch import nn

SHAPES = [(192, 576), (300, 200), (7, 33), (5,), (64, 64)]  # of whole blocks, and not


def random_weight(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.05


def theirs(weight, double):
    functional = oracle("bitsandbytes.functional")
    with torch.compiler.set_stance("force_eager"):  # it would compile for each shape
        packed, state = functional.quantize_4bit(weight, blocksize=64, compress_statistics=double, quant_type="nf4")
        return packed.flatten(), state, functional.dequantize_4bit(packed, state)


def test_the_derived_values_are_the_published_ones():
    _, state, _ = theirs(random_weight((300, 300)), True)
    assert torch.equal(nf4_values(), state.code), "8 above 0, 7 below, the same offset for both?"
    assert torch.equal(float8_values(), state.state2.code)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("double", [True, False])
def test_bytes_and_weights_equal_those_of_bitsandbytes(shape, double):
    weight = random_weight(shape)
    packed, state, expected = theirs(weight, double)
    ours = quantise(weight, double)
    assert torch.equal(ours.packed[: len(packed)], packed), "is the first weight in the upper half of a byte?"
    if double:
        assert torch.allclose(ours.offset, state.offset)
        assert torch.allclose(ours.outer_absmax, state.state2.absmax, rtol=1e-5)
        if len(ours.absmax) > 1:  # one alone is the mean, and any code times 0 is right
            steps = (ours.absmax.int() - state.absmax.int()).abs()
            assert steps.max() <= 1 and steps.sum() <= 0.01 * len(steps), "only where two values are equally near"
        ours = ours._replace(absmax=state.absmax)
    else:
        assert torch.equal(ours.absmax, state.absmax)
    assert dequantise(ours).shape == weight.shape
    assert torch.allclose(dequantise(ours), expected, rtol=1e-5, atol=1e-9)


def test_error_and_size_are_those_of_the_paper():
    weight = random_weight((4096, 512)) / 0.05
    for double in (False, True):
        error = dequantise(quantise(weight, double)) - weight
        assert (error.square().mean() / weight.square().mean()).sqrt().item() == pytest.approx(0.0920, abs=2e-4)
    bits = [8 * sum(part.nbytes for part in quantise(weight, double)[1:] if part is not None) / weight.numel()
            for double in (False, True)]
    assert bits[0] == 4 + 32 / 64
    assert bits[1] == pytest.approx(4 + 8 / 64 + 32 / (64 * 256) + 32 / weight.numel(), abs=1e-9)
    assert bits[1] == pytest.approx(4.127, abs=5e-4)


def test_quantising_twice_changes_nothing():
    once = dequantise(quantise(random_weight((96, 128)), double=False))
    assert torch.equal(dequantise(quantise(once, double=False)), once)


@pytest.mark.parametrize("weight", [torch.zeros(64, 64), torch.ones(3, 64), -torch.ones(1, 1), torch.eye(64) * 1e-30])
def test_zeros_and_extremes_survive(weight):
    assert torch.equal(dequantise(quantise(weight, double=False)), weight)
    assert torch.isfinite(dequantise(quantise(weight))).all()


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_through_the_dense_weights(bias):
    torch.manual_seed(0)
    linear = nn.Linear(96, 40, bias=bias)
    layer = Linear4bit(linear)
    dense = layer.weight
    assert not dense.requires_grad and (dense - linear.weight).abs().max() > 0
    x, up = torch.randn(2, 5, 96, requires_grad=True), torch.randn(2, 5, 40)
    (expected,) = torch.autograd.grad(nn.functional.linear(x, dense, linear.bias), x, up)
    y = layer(x)
    (found,) = torch.autograd.grad(y, x, up)
    assert torch.allclose(y, nn.functional.linear(x, dense, linear.bias), atol=1e-6)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    (found,) = torch.autograd.grad(y, x, up.to(y.dtype))
    assert y.dtype == torch.bfloat16 and found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.05)


def test_no_dense_copy_waits_for_the_backward_pass(monkeypatch):
    copies, original = [], nf4.dequantise

    def watched(state):
        weight = original(state)
        copies.append(weakref.ref(weight))
        return weight

    monkeypatch.setattr(nf4, "dequantise", watched)
    layer, x = Linear4bit(nn.Linear(64, 64)), torch.randn(3, 64, requires_grad=True)
    y = layer(x)
    gc.collect()
    assert len(copies) == 1 and copies[0]() is None, "the graph holds a float32 matrix"
    y.sum().backward()
    assert len(copies) == 2


def test_a_model_in_4_bits_is_saved_and_loaded_again():
    model = GPT(GPTConfig(50, 64, 16, 4, 2)).eval()
    dense = sum(parameter.nbytes for parameter in model.blocks.parameters())
    quantise_linears(model, ["blocks.0.attention.query_key_value", "blocks.1.feed_forward.expand"])
    assert isinstance(model.blocks[0].attention.query_key_value, Linear4bit)
    assert isinstance(model.blocks[1].feed_forward.expand, Linear4bit)
    assert isinstance(model.blocks[1].feed_forward.projection, nn.Linear)
    held = model.blocks.state_dict()
    assert sum(tensor.nbytes for tensor in held.values()) < dense
    other = GPT(GPTConfig(50, 64, 16, 4, 2)).eval()
    quantise_linears(other, ["blocks.0.attention.query_key_value", "blocks.1.feed_forward.expand"])
    ids = torch.randint(50, (2, 16))
    assert not torch.equal(other(ids)[0], model(ids)[0])
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(ids)[0], model(ids)[0])
