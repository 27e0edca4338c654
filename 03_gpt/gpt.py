"""A gpt2-style language model, to be read beside the report's section on self-attention.

Token and position embeddings are added, pass through a stack of transformer blocks, and the head
turns the result into a score for every token of the vocabulary: the logits.
Shapes: B sequences, T positions, C = embedding size, V = vocabulary size.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
from attention import CausalSelfAttention
from linear_cross_entropy import linear_cross_entropy


@dataclass
class GPTConfig:
    """The shape of a model; a checkpoint stores it beside the weights."""

    vocab_size: int
    embedding_size: int
    block_size: int
    head_count: int
    layer_count: int
    dropout: float = 0.0


class FeedForward(nn.Module):
    """What every position does for itself once it has looked around: C -> 4C -> C.

    Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2; GPT-2 takes the tanh form.
    """

    def __init__(self, config):
        super().__init__()
        self.expand = nn.Linear(config.embedding_size, 4 * config.embedding_size)
        self.gelu = nn.GELU(approximate="tanh")
        self.projection = nn.Linear(4 * config.embedding_size, config.embedding_size)

    def forward(self, x):
        return self.projection(self.gelu(self.expand(x)))


class Block(nn.Module):
    """Attention, then feed-forward, each on a normalised copy, each added to what came in.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
    """

    def __init__(self, config):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.embedding_size)
        self.attention = CausalSelfAttention(config.embedding_size, config.head_count, config.dropout)
        self.feed_forward_norm = nn.LayerNorm(config.embedding_size)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.position_embedding = nn.Embedding(config.block_size, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layer_count))
        self.norm = nn.LayerNorm(config.embedding_size)
        self.apply(self.initialise)

    def initialise(self, module):
        """GPT-2's: normal, of deviation 0.02, and smaller where 2 x layer_count results are added up.

        Embeddings have 0.02 at GPT-2's width of 768 and more in narrower models, positions half of it.
        Radford et al. 2019, section 2.3, and the published code.
        """
        embedding_std = 0.02 * math.sqrt(768 / self.config.embedding_size)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, (CausalSelfAttention, FeedForward)):
            nn.init.normal_(module.projection.weight, std=0.02 / math.sqrt(2 * self.config.layer_count))
        elif module is self:
            nn.init.normal_(self.token_embedding.weight, std=embedding_std)
            nn.init.normal_(self.position_embedding.weight, std=embedding_std / 2)

    def parameter_count(self):
        return sum(parameter.numel() for parameter in self.parameters())

    def hidden(self, ids):
        """Token ids (B, T) -> what the model knows at each position (B, T, C)."""
        T = ids.shape[1]
        if self.config.block_size < T:
            raise ValueError(f"{T} tokens are more than the model's block_size of {self.config.block_size}")
        positions = torch.arange(T, device=ids.device)
        x = self.dropout(self.token_embedding(ids) + self.position_embedding(positions))  # (B, T, C)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def head(self, hidden):
        """(..., C) -> logits (..., V). The head is the token embedding turned round (tied weights)."""
        return hidden @ self.token_embedding.weight.T

    def forward(self, ids, targets=None):
        """ids (B, T) -> (logits (B, T, V), None); with targets (B, T) -> (None, mean loss)."""
        hidden = self.hidden(ids)
        if targets is None:
            return self.head(hidden), None
        return None, linear_cross_entropy(hidden, self.token_embedding.weight, targets)
