"""The smallest language model that attends: one block of attention between an embedding and a head."""

import torch
import torch.nn.functional as F
from attention import CausalSelfAttention
from torch import nn


class OneBlockModel(nn.Module):
    """ids (B, T) -> logits (B, T, V), and with targets (B, T) the mean loss too."""

    def __init__(self, vocab_size, embedding_size, block_size, head_count, dropout=0.0):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, embedding_size)
        self.position_embedding = nn.Embedding(block_size, embedding_size)
        self.attention = CausalSelfAttention(embedding_size, head_count, dropout)
        self.norm = nn.LayerNorm(embedding_size)
        self.head = nn.Linear(embedding_size, vocab_size)

    def embed(self, ids):
        positions = torch.arange(ids.shape[1], device=ids.device)
        return self.token_embedding(ids) + self.position_embedding(positions)  # (B, T, C)

    def forward(self, ids, targets=None):
        x = self.embed(ids)
        x = x + self.attention(x)  # the residual connection
        logits = self.head(self.norm(x))
        loss = None if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss

    def attention_maps(self, ids):
        """How much each token (row) looks at each other one (column), per head: (B, nh, T, T)."""
        return self.attention.weights(self.embed(ids))
