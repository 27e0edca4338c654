"""Causal multi-head self-attention: each position looks back at itself and what came before.

Shapes: B sequences, T positions, C = embedding size, nh heads of size hs = C / nh.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class CausalSelfAttention(nn.Module):
    """Queries, keys and values come from the same x (B, T, C); so does the shape of the result.

    With `fused` the scores never exist as a matrix (`F.scaled_dot_product_attention`); without, the
    formula is computed as it is written. Both give the same numbers.
    Vaswani et al. 2017, "Attention Is All You Need", equation 1 and section 3.2.
    """

    def __init__(self, embedding_size, head_count, dropout=0.0, bias=True, fused=True):
        super().__init__()
        if embedding_size % head_count:
            raise ValueError(f"embedding_size {embedding_size} must be divisible by head_count {head_count}")
        self.head_count = head_count
        self.dropout = dropout
        self.fused = fused
        self.query_key_value = nn.Linear(embedding_size, 3 * embedding_size, bias=bias)  # three matrices in one
        self.projection = nn.Linear(embedding_size, embedding_size, bias=bias)

    def heads(self, x):
        """The queries, keys and values of every head, each (B, nh, T, hs)."""
        B, T, C = x.shape
        qkv = self.query_key_value(x)  # (B, T, 3C)
        qkv = qkv.view(B, T, 3, self.head_count, C // self.head_count)  # (B, T, 3, nh, hs)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def weights(self, q, k):
        """How much each position (row) attends to each other one (column): (B, nh, T, T); rows sum to 1."""
        T, head_size = q.shape[-2:]
        # softmax(Q K^T / sqrt(d_k)): the scale is the size of a head, not of the embedding
        scores = q @ k.transpose(-2, -1) / math.sqrt(head_size)
        future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(diagonal=1)
        return scores.masked_fill(future, -math.inf).softmax(dim=-1)

    def forward(self, x):
        q, k, v = self.heads(x)
        dropout = self.dropout if self.training else 0.0
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        else:
            y = F.dropout(self.weights(q, k), dropout) @ v  # Attention(Q, K, V) = weights V
        y = y.transpose(1, 2).reshape(x.shape)  # (B, nh, T, hs) -> (B, T, C): the heads side by side
        return self.projection(y)
