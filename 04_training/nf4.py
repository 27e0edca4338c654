"""A matrix in 4 bits a weight: the NormalFloat of QLoRA, with which the frozen part of a model takes an eighth.

Each block of 64 weights is divided by its largest magnitude (absmax), and of each quotient the nearest of 16 values
is noted. The absmaxes themselves are quantised, too: 4 + 8/64 + 32/(64 x 256) = 4.127 bits a weight in all.
Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", section 3.
"""

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

BLOCK, OUTER_BLOCK = 64, 256  # weights that share an absmax, absmaxes that share theirs
OFFSET = 0.9677083  # the last quantile, as that of 1 would be infinite: (31/32 + 29/30) / 2, rounded as published


def nf4_values():
    """The 16 values (16,), in order, made so that of normal weights as many are near to one as to another.

    Equation 4 has means of neighbouring quantiles. What was published, and is in everyone's files, takes quantiles at
    equal distances (in float32) from OFFSET to 1/2: 8 above 0, 7 below, and 0, so that zeros stay zero; the largest
    becomes 1. Dettmers et al. 2023, section 3 and appendix E.
    """
    above, below = (torch.special.ndtri(torch.linspace(OFFSET, 0.5, count + 1)[:-1].double()) for count in (8, 7))
    values = torch.cat([-below, torch.zeros(1), above]).float().sort().values
    return values / values.max()


def float8_values():
    """The 256 values of the absmaxes (256,), in order: fine near 0, coarse near 1.

    After the sign, e zeros and a one mean 10^-e; the other 6 - e bits mean one of 2^(6-e) equal parts of 0.1 to 1, by
    its middle. Two codes are left, for 0 and for 1.
    Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", section 1.3, dynamic tree quantization.
    """
    values = [0.0, 1.0]
    for e in range(7):
        edges = torch.linspace(0.1, 1, 2 ** (6 - e) + 1)
        middles = (10.0**-e * (edges[:-1] + edges[1:]) / 2).tolist()
        values += middles + [-middle for middle in middles]
    return torch.tensor(sorted(values))


@cache
def tables(device):
    """(what a byte of two weights means, as the 8 bytes of two float32 (256,); what that of an absmax means (256,))."""
    values = nf4_values()
    pairs = torch.cartesian_prod(values, values)  # (256, 2): the first weight is the upper half of the byte
    # one number of 64 bits is fetched faster than two of 32
    return pairs.view(torch.int64).flatten().to(device), float8_values().to(device)


class Quantised(NamedTuple):
    """A tensor in 4 bits a weight, N weights in whole blocks: what `quantise` gives and `dequantise` takes."""

    shape: tuple
    packed: torch.Tensor  # (N / 2,): bytes of two weights
    absmax: torch.Tensor  # (N / 64,): float32, or bytes with scales of their own
    outer_absmax: torch.Tensor | None = None  # (N / 64 / 256,)
    offset: torch.Tensor | None = None  # the mean of the absmaxes: they are all above 0, the values are not


def in_blocks(flat, size):
    """(N,) -> (blocks, size), the last one filled up with zeros, and the largest magnitude of each (blocks, 1)."""
    blocks = F.pad(flat, (0, -len(flat) % size)).view(-1, size)
    return blocks, blocks.abs().amax(dim=1, keepdim=True)


def nearest(blocks, absmax, values):
    """Which of the values each weight is nearest to, once its block is divided by absmax."""
    between, scale = (values[:-1] + values[1:]) / 2, absmax.clamp(min=1e-38)  # zeros stay zeros
    return torch.bucketize(blocks * (1 / scale), between, out_int32=True).byte()


def quantise(weight, double=True):
    """A tensor as 4 bits a weight; with `double`, the absmaxes as 8 bits each, too.

    Dettmers et al. 2023, equations 1 and 2, and section 3, "Double Quantization".
    """
    blocks, absmax = in_blocks(weight.detach().float().flatten(), BLOCK)
    codes = nearest(blocks, absmax, nf4_values().to(weight.device)).flatten()
    packed, absmax = codes[::2] << 4 | codes[1::2], absmax.flatten()
    if not double:
        return Quantised(tuple(weight.shape), packed, absmax)
    offset = absmax.mean()
    outer, outer_absmax = in_blocks(absmax - offset, OUTER_BLOCK)
    codes = nearest(outer, outer_absmax, tables(weight.device)[1]).flatten()[: len(absmax)]
    return Quantised(tuple(weight.shape), packed, codes, outer_absmax.flatten(), offset)


def dequantise(state):
    """The tensor again, in float32. Dettmers et al. 2023, equations 2 and 6."""
    (pairs, values), absmax = tables(state.packed.device), state.absmax
    if state.outer_absmax is not None:
        outer, _ = in_blocks(values[absmax.int()], OUTER_BLOCK)
        absmax = (outer * state.outer_absmax[:, None]).flatten()[: len(absmax)] + state.offset
    weights = pairs.index_select(0, state.packed.int()).view(torch.float32)
    weights.view(-1, BLOCK).mul_(absmax[:, None])
    return weights[: torch.Size(state.shape).numel()].view(state.shape)


class FrozenProduct(torch.autograd.Function):
    """x W^T + b, with a gradient for x alone. W is computed anew for it: no float32 copy waits in between."""

    @staticmethod
    def forward(ctx, x, state, bias):
        ctx.state = state
        return F.linear(x, dequantise(state).to(x.dtype), bias)

    @staticmethod
    def backward(ctx, d_y):
        return d_y @ dequantise(ctx.state).to(d_y.dtype), None, None


class Linear4bit(nn.Module):
    """A frozen Linear, held in 4 bits. Dettmers et al. 2023, equation 5 without its last term, which lora.py adds."""

    packed: torch.Tensor  # these four as in Quantised
    absmax: torch.Tensor
    outer_absmax: torch.Tensor | None
    offset: torch.Tensor | None

    def __init__(self, linear, double=True):
        super().__init__()
        self.shape, *tensors = quantise(linear.weight, double)
        for name, tensor in zip(Quantised._fields[1:], tensors):
            self.register_buffer(name, tensor)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach(), requires_grad=False)
        self.like = nn.Parameter(linear.weight.new_empty(0), requires_grad=False)  # takes a new dtype with the model

    @property
    def state(self):
        return Quantised(self.shape, self.packed, self.absmax, self.outer_absmax, self.offset)

    @property
    def weight(self):
        """The matrix (out, in), computed anew: for those who read a Linear's weight instead of calling it."""
        return dequantise(self.state).to(self.like.dtype)

    def forward(self, x):
        return FrozenProduct.apply(x, self.state, self.bias)


def put(model, name, part):
    """Let this be the part of the model with that name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, part)


def quantise_linears(model, names):
    """Hold the Linear layers of these names ("blocks.0.attention.query") in 4 bits, in place."""
    for name in names:
        put(model, name, Linear4bit(model.get_submodule(name)))
