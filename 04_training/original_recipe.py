"""The original's training step, re-told: what chapter 04's step for large vocabularies is measured against.

It is that of https://github.com/gg-blake/cs478 (commit cb738d9336d83c92ab2971f66b7de0d584cb9356), gpt/lm_model.py, for
the report's second command: whatever sizes are typed, it trains on 4 blocks of 8 tokens. From the same weights, batches
and dropout it has the same losses, in the same time. Left out is its validation, after the first step and each 500
more: 400 batches of the sizes that were typed, each of whose logits are 13 GB with GPT-4o's vocabulary.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
from attention import SingleHeadAttention

BATCH, BLOCK = 4, 8


class OriginalHead(SingleHeadAttention):
    """One head, (B, T, C) -> (B, T, hs): it divides scores by the root of C, not of hs, and drops none of them."""

    back: torch.Tensor  # (block_size, block_size): 1 where a position looks at itself or an earlier one, else 0

    def __init__(self, embedding_size, head_size, block_size):
        super().__init__(embedding_size, head_size)
        self.register_buffer("back", torch.ones(block_size, block_size).tril())

    def forward(self, x):
        _, T, C = x.shape
        # softmax(Q K^T / sqrt(C)) V
        scores = self.query(x) @ self.key(x).mT * C**-0.5  # (B, T, T)
        scores = scores.masked_fill(self.back[:T, :T] == 0, -torch.inf)
        return scores.softmax(dim=-1) @ self.value(x)


class OriginalBlock(nn.Module):
    """Pre-norm as in GPT-2; heads one after the other; ReLU; biases everywhere but in queries, keys and values."""

    def __init__(self, C, block_size, head_count, dropout):
        super().__init__()
        self.heads = nn.ModuleList(OriginalHead(C, C // head_count, block_size) for _ in range(head_count))
        self.projection = nn.Linear(C, C)
        self.feed_forward = nn.Sequential(nn.Linear(C, 4 * C), nn.ReLU(), nn.Linear(4 * C, C), nn.Dropout(dropout))
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(C), nn.LayerNorm(C)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        normed = self.attention_norm(x)
        joined = torch.cat([head(normed) for head in self.heads], dim=-1)  # (B, T, C)
        x = x + self.projection(self.dropout(joined))
        return x + self.feed_forward(self.feed_forward_norm(x))


class OriginalModel(nn.Module):
    """Ids (B, T) -> logits (B, T, V). The defaults are the report's second command; the head is not tied."""

    def __init__(self, vocab_size, embedding_size=384, block_size=256, head_count=6, layer_count=6, dropout=0.2):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, embedding_size)
        self.position_embedding = nn.Embedding(block_size, embedding_size)
        self.blocks = nn.Sequential(
            *(OriginalBlock(embedding_size, block_size, head_count, dropout) for _ in range(layer_count)))
        self.norm = nn.LayerNorm(embedding_size)
        self.output = nn.Linear(embedding_size, vocab_size, bias=False)

    def forward(self, ids):
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.token_embedding(ids) + self.position_embedding(positions)  # (B, T, C), no dropout
        return self.output(self.norm(self.blocks(x)))


def original_optimizer(model, learning_rate=3e-4):
    """AdamW as it is when only the learning rate is given: one weight after the other, decay 0.01 on all of them."""
    return torch.optim.AdamW(model.parameters(), lr=learning_rate)


def original_step(model, optimizer, ids, targets):
    """One step on ids and targets (B, T), at one learning rate and with no clipping; returns the loss before it."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
    loss.backward()
    optimizer.step()
    return loss.item()
