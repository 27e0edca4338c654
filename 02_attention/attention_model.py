"""A language model of nothing but attention, of any kind: what the scripts of this chapter train and look into.

Shapes: B sequences, T positions, C = embedding size, V = vocabulary size, nh heads of size hs = C / nh.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from attention import CausalSelfAttention, GroupedQueryAttention, MultiHeadAttention
from latent_attention import MultiHeadLatentAttention
from positions import LearnedPositions, Rotary, rotary_frequencies
from torch import nn


class OriginalScaleAttention(CausalSelfAttention):
    """The report's original: its scores are divided by the root of the whole embedding's size, not of a head's."""

    def heads(self, x):
        q, k, v = super().heads(x)
        return q * math.sqrt(q.shape[-1] / x.shape[-1]), k, v  # q k / sqrt(hs) becomes q k / sqrt(C)


class Recurrent(nn.GRU):
    """What came before attention: a state of C numbers is all that each position knows of those before it.

    Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder", section 2.3.
    """

    def __init__(self, embedding_size):
        super().__init__(embedding_size, embedding_size, batch_first=True)

    def forward(self, x):
        return super().forward(x)[0]  # (B, T, C), without the last state


def grouped(C, T, nh, dropout, key_value_heads):
    rotary = Rotary(rotary_frequencies(C // nh), T)
    return GroupedQueryAttention(C, nh, key_value_heads, rotary=rotary, dropout=dropout)


def latent(C, T, nh, dropout):
    """A quarter of the embedding is remembered, and half a head's size with position."""
    rotary = Rotary(rotary_frequencies(max(2, C // nh // 4 * 2)), T, interleaved=True)
    return MultiHeadLatentAttention(C, nh, max(1, C // 4), C // nh, rotary, dropout=dropout)


KINDS = {
    "no_mask": lambda C, T, nh, dropout: MultiHeadAttention(C, nh, dropout),
    "single_head": lambda C, T, nh, dropout: CausalSelfAttention(C, 1, dropout),
    "multi_head": lambda C, T, nh, dropout: CausalSelfAttention(C, nh, dropout),
    "original_scale": lambda C, T, nh, dropout: OriginalScaleAttention(C, nh, dropout),
    "grouped_query": lambda C, T, nh, dropout: grouped(C, T, nh, dropout, math.gcd(nh, max(1, nh // 2))),
    "multi_query": lambda C, T, nh, dropout: grouped(C, T, nh, dropout, 1),
    "latent": latent,
    "recurrent": lambda C, T, nh, dropout: Recurrent(C),
}
ADDED_POSITIONS = {"no_mask", "single_head", "multi_head", "original_scale"}  # the others know positions themselves


class AttentionModel(nn.Module):
    """ids (B, T) -> logits (B, T, V), and with targets (B, T) the mean loss too."""

    attentions: Any  # an nn.ModuleList of what KINDS makes

    def __init__(self, vocab_size, embedding_size, block_size, head_count, layer_count=1, kind="multi_head",
                 dropout=0.0):
        super().__init__()
        self.block_size = block_size
        self.token_embedding = nn.Embedding(vocab_size, embedding_size)
        self.position_embedding = LearnedPositions(block_size, embedding_size) if kind in ADDED_POSITIONS else None
        self.norms = nn.ModuleList(nn.LayerNorm(embedding_size) for _ in range(layer_count))
        self.attentions = nn.ModuleList(KINDS[kind](embedding_size, block_size, head_count, dropout)
                                        for _ in range(layer_count))
        self.norm = nn.LayerNorm(embedding_size)
        self.head = nn.Linear(embedding_size, vocab_size)

    def embed(self, ids):
        x = self.token_embedding(ids)
        if self.position_embedding is not None:
            x = x + self.position_embedding(torch.arange(ids.shape[1], device=ids.device))
        return x  # (B, T, C)

    def forward(self, ids, targets=None):
        x = self.embed(ids)
        for norm, attention in zip(self.norms, self.attentions):
            x = x + attention(norm(x))  # the residual connection
        logits = self.head(self.norm(x))
        loss = None if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss

    def attention_maps(self, ids):
        """How much each token (row) looks at each other one (column): for each layer (B, nh, T, T)."""
        x, maps = self.embed(ids), []
        for norm, attention in zip(self.norms, self.attentions):
            maps.append(attention.weights(norm(x)))
            x = x + attention(norm(x))
        return maps

    def cached_numbers(self):
        """What decoding must remember per token, in all layers; None if there is no cache that helps."""
        if not all(hasattr(attention, "cached_sizes") for attention in self.attentions):
            return None
        return sum(heads * size for attention in self.attentions for heads, size in attention.cached_sizes)

    @torch.no_grad()
    def generate(self, ids, count):
        """Continue ids (B, T) by `count` tokens, each drawn with the probability that the model gives it."""
        self.eval()
        for _ in range(count):
            logits, _ = self(ids[:, -self.block_size :])
            ids = torch.cat([ids, torch.multinomial(logits[:, -1].softmax(-1), 1)], dim=1)
        return ids
