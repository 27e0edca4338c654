"""The parts that a config can name: norms, kinds of attention, feed-forward layers.

Shapes: B sequences, T positions, C = embedding size, F = feed-forward size.
"""

import sys
from pathlib import Path

import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
from attention import CausalSelfAttention, GroupedQueryAttention
from attention_model import OriginalScaleAttention
from experts import MixtureOfExperts
from latent_attention import MultiHeadLatentAttention
from positions import Rotary, llama3_frequencies, rotary_frequencies


class FeedForward(nn.Module):
    """What every position does for itself once it has looked around: C -> F -> C.

    Vaswani et al. 2017, section 3.3, with ReLU; GPT-2 has GELU in its tanh form, BERT the exact one (Hendrycks and
    Gimpel 2016, section 2); ReLU squared is from So et al. 2021, "Primer", section 3.
    """

    activations = {
        "relu": F.relu,
        "gelu": lambda x: F.gelu(x, approximate="tanh"),
        "exact_gelu": F.gelu,
        "relu2": lambda x: F.relu(x).square(),
    }

    def __init__(self, embedding_size, size, activation="gelu", bias=True):
        super().__init__()
        self.activation = self.activations[activation]
        self.expand = nn.Linear(embedding_size, size, bias=bias)
        self.projection = nn.Linear(size, embedding_size, bias=bias)

    def forward(self, x):
        return self.projection(self.activation(self.expand(x)))


class SwiGLU(nn.Module):
    """A feed-forward layer whose inner numbers are let through by a gate: C -> F -> C.

    Shazeer 2020, "GLU Variants Improve Transformer", equation 6.
    """

    def __init__(self, embedding_size, size, bias=False):
        super().__init__()
        self.gate = nn.Linear(embedding_size, size, bias=bias)
        self.expand = nn.Linear(embedding_size, size, bias=bias)
        self.projection = nn.Linear(size, embedding_size, bias=bias)

    def forward(self, x):
        # (Swish(x W) * x V) W2
        return self.projection(F.silu(self.gate(x)) * self.expand(x))


def make_norm(config):
    """LayerNorm; or RMSNorm, which only scales (Zhang and Sennrich 2019, equation 4); or nothing."""
    if config.norm == "layer_norm":
        return nn.LayerNorm(config.embedding_size, config.norm_epsilon, bias=config.bias == "all")
    return nn.RMSNorm(config.embedding_size, config.norm_epsilon) if config.norm == "rms_norm" else nn.Identity()


def make_rotary(config):
    """The one table of turns for all layers, or None where positions are learned."""
    if config.positions == "learned" and config.attention != "latent":
        return None
    size = config.rotary_size or config.head_size or config.embedding_size // config.head_count
    frequencies = rotary_frequencies(size, config.rotary_base)
    if config.rotary_scaling:
        frequencies = llama3_frequencies(frequencies, **config.rotary_scaling)
    return Rotary(frequencies, config.block_size, config.rotary_interleaved)


def make_attention(config, rotary):
    C, nh = config.embedding_size, config.head_count
    if config.attention == "latent":
        return MultiHeadLatentAttention(
            C, nh, config.latent_size or C // 4, config.head_size or C // nh, rotary, config.query_latent_size,
            dropout=config.dropout, norm_epsilon=config.norm_epsilon)
    if config.attention == "multi_head" and rotary is None:
        return CausalSelfAttention(C, nh, config.dropout, config.bias == "all", window=config.window)
    if config.attention == "original_scale":
        return OriginalScaleAttention(C, nh, config.dropout, config.bias == "all")
    return GroupedQueryAttention(
        C, nh, config.key_value_head_count or nh, config.head_size, rotary, config.qk_norm, config.window,
        config.dropout, bias=config.bias != "none", projection_bias=config.bias == "all",
        norm_epsilon=config.norm_epsilon)


def make_feed_forward(config):
    """The feed-forward layer of a block; its size is 4C, or 8C/3 for the three matrices of SwiGLU, if not given."""
    C, kind, bias = config.embedding_size, config.feed_forward, config.bias == "all"
    size = config.feed_forward_size or (8 * C // 3 if kind == "swiglu" else 4 * C)

    def layer(size):
        return SwiGLU(C, size, bias) if kind == "swiglu" else FeedForward(C, size, kind, bias)

    if not config.expert_count:
        return layer(size)
    experts = [layer(config.expert_size or size // config.experts_per_token) for _ in range(config.expert_count)]
    shared = layer(config.shared_expert_size) if config.shared_expert_size else None
    return MixtureOfExperts(C, experts, config.experts_per_token, shared, config.balance)
