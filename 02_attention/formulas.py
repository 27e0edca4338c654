"""The report's three formulas, each once, as it is written, and safe for large numbers."""

import math

import torch
from torch import nn


def softmax(z, dim=-1):
    """Positive numbers that sum to 1 along `dim`: [0, ln 3] -> [1/4, 3/4].

    Goodfellow, Bengio and Courville 2016, "Deep Learning", section 4.1.
    """
    # e^z_i / sum_j e^z_j is the same for z - max(z), where e^0 is the largest number that appears:
    # e^z itself is infinite in float32 from z = 89 on
    exponentials = (z - z.amax(dim, keepdim=True)).exp()
    return exponentials / exponentials.sum(dim, keepdim=True)


def attention_weights(q, k, mask=None):
    """How much each query (row) attends to each key (column): (..., T, hs), (..., S, hs) -> (..., T, S).

    Rows sum to 1. The mask is True where a query may look; each row needs at least one such key (else it is 0 / 0).
    Vaswani et al. 2017, "Attention Is All You Need", equation 1.
    """
    head_size = q.shape[-1]
    # softmax(Q K^T / sqrt(d_k)): d_k is the size of a head, not of the embedding
    scores = q @ k.transpose(-2, -1) / math.sqrt(head_size)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)  # e^-inf = 0
    return softmax(scores)


class LayerNorm(nn.Module):
    """Each vector (..., C) with mean 0 and variance 1 across its C numbers, then scaled and shifted by learned ones.

    Ba, Kiros and Hinton 2016, "Layer Normalization", section 3.
    """

    def __init__(self, embedding_size, epsilon=1e-5):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(embedding_size))  # gamma
        self.bias = nn.Parameter(torch.zeros(embedding_size))  # beta

    def forward(self, x):
        deviation = x - x.mean(-1, keepdim=True)  # x - E[x]
        # Var[x] = E[(x - E[x])^2]; as E[x^2] - E[x]^2 two large numbers would cancel. Divided by C, not by C - 1
        variance = deviation.square().mean(-1, keepdim=True)
        # (x - E[x]) / sqrt(Var[x] + epsilon) * gamma + beta
        return deviation / (variance + self.epsilon).sqrt() * self.weight + self.bias
