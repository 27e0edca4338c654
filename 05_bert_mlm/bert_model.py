"""BERT: a transformer that looks both ways, to be read beside the report's section on it.

Changes from 03_gpt: no mask hides what comes later; each sub-layer's sum is normalised, not its input; segments say
which of two sentences a token is of; and the head, which has a layer of its own, guesses tokens that were hidden, not
the next one. The modern variant (pre-norm, rotary positions, gated feed-forward, no biases) is a matter of the config.
Shapes: B rows, T positions, C = embedding size, V = vocabulary size, N hidden tokens.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from attend import attend, join_heads
from attention import MultiHeadAttention
from blocks import FeedForward, SwiGLU
from positions import LearnedPositions, Rotary, rotary_frequencies


@dataclass
class BERTConfig:
    """The shape of a model; a checkpoint stores it beside the weights. The defaults are BERT's."""

    vocab_size: int
    embedding_size: int
    block_size: int
    head_count: int
    layer_count: int
    dropout: float = 0.0
    feed_forward_size: int | None = None  # 4C, or 8C/3 for the three matrices of SwiGLU
    segment_count: int = 2  # kinds of sentences; 0 for none
    masked_head: bool = True  # published encoders of sentences lack it
    pooler: bool = True
    # what the family became
    positions: str = "learned"  # or "rotary"
    pre_norm: bool = False
    feed_forward: str = "exact_gelu"  # or "swiglu"
    bias: bool = True
    window: int | None = None  # tokens to each side that a layer looks at, but every third layer, which looks at all
    norm_epsilon: float = 1e-12
    rotary_base: float = 10000.0


# the parts of two families
FAMILIES = {
    "bert": {},
    "modern": {"positions": "rotary", "pre_norm": True, "feed_forward": "swiglu", "bias": False, "segment_count": 0,
               "window": 3, "norm_epsilon": 1e-5},
}

# the shapes of published models
SIZES = {
    "bert-base-uncased": BERTConfig(30522, 768, 512, 12, 12, 0.1),
    "bert-large-uncased": BERTConfig(30522, 1024, 512, 16, 24, 0.1),
    "minilm-l6": BERTConfig(30522, 384, 512, 12, 6, 0.1, masked_head=False),
}


class BidirectionalAttention(MultiHeadAttention):
    """Each position looks at all of them, to both sides, or at `window` of them on each side.

    `rotary` (positions.py) may turn queries and keys.
    """

    def __init__(self, embedding_size, head_count, dropout=0.0, bias=True, rotary=None, window=None):
        super().__init__(embedding_size, head_count, dropout, bias)
        self.rotary, self.window = rotary, window

    def forward(self, x, positions=None, mask=None, only=None):
        """(B, T, C) -> (B, T, C); with `only` (B, T), True at the N positions whose answer is wanted, (N, C)."""
        if self.window is not None:
            places = torch.arange(x.shape[1], device=x.device)
            near = (places[:, None] - places).abs() <= self.window  # (T, T)
            mask = near if mask is None else near & mask
        q, k, v = self.heads(x)  # (B, nh, T, hs)
        if self.rotary is not None:
            q, k = self.rotary(q, positions), self.rotary(k, positions)
        y = join_heads(attend(q, k, v, mask, self.dropout if self.training else 0.0))  # (B, T, C)
        return self.projection(y if only is None else y[only])


class Block(nn.Module):
    """Attention, then feed-forward, each added to what came in; the sum is normalised, or if pre_norm the input.

    Vaswani et al. 2017, section 3.1; pre-norm: Xiong et al. 2020, "On Layer Normalization in the Transformer
    Architecture", figure 1.
    """

    def __init__(self, config, rotary=None, window=None):
        super().__init__()
        C, bias = config.embedding_size, config.bias
        gated = config.feed_forward == "swiglu"
        size = config.feed_forward_size or (8 * C // 3 if gated else 4 * C)
        self.pre_norm = config.pre_norm
        self.attention = BidirectionalAttention(C, config.head_count, config.dropout, bias, rotary, window)
        self.attention_norm = nn.LayerNorm(C, config.norm_epsilon, bias=bias)
        self.feed_forward = SwiGLU(C, size, bias) if gated else FeedForward(C, size, config.feed_forward, bias)
        self.feed_forward_norm = nn.LayerNorm(C, config.norm_epsilon, bias=bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, positions=None, mask=None, only=None):
        found = self.attention(self.attention_norm(x) if self.pre_norm else x, positions, mask, only)
        x = (x if only is None else x[only]) + self.dropout(found)
        if self.pre_norm:
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x)  # LayerNorm(x + Sublayer(x))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class BERT(nn.Module):
    """An encoder, and the heads that it is trained with.

    Devlin et al. 2018, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", section 3;
    the modern variant: Warner et al. 2024, "Smarter, Better, Faster, Longer" (ModernBERT), section 2.1: among others,
    most layers look only at what is near.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        C, bias = config.embedding_size, config.bias
        self.token_embedding = nn.Embedding(config.vocab_size, C)
        if config.positions == "learned":
            self.position_embedding = LearnedPositions(config.block_size, C)
        if config.segment_count:
            self.segment_embedding = nn.Embedding(config.segment_count, C)
        self.embedding_norm = nn.LayerNorm(C, config.norm_epsilon, bias=bias)
        self.dropout = nn.Dropout(config.dropout)
        rotary = None  # one for all blocks
        if config.positions == "rotary":
            rotary = Rotary(rotary_frequencies(C // config.head_count, config.rotary_base), config.block_size)
        windows = (config.window if number % 3 else None for number in range(1, config.layer_count + 1))
        self.blocks = nn.ModuleList(Block(config, rotary, window) for window in windows)
        self.norm = nn.LayerNorm(C, config.norm_epsilon, bias=bias) if config.pre_norm else nn.Identity()
        if config.masked_head:
            self.transform = nn.Linear(C, C, bias=bias)
            self.transform_norm = nn.LayerNorm(C, config.norm_epsilon, bias=bias)
            self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))
        if config.pooler:
            self.pooler = nn.Linear(C, C)
            self.next_sentence = nn.Linear(C, 2)  # 0: the second sentence follows the first, 1: it does not
        self.apply(self.initialise)

    def initialise(self, module):
        """Normal, of deviation 0.02; biases are 0. Devlin et al. 2018, the published code."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def parameter_count(self):
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def head_weight(self):
        """(V, C): the token embedding, turned round by the head (tied weights)."""
        return self.token_embedding.weight

    def hidden(self, ids, positions=None, mask=None, segments=None, only=None):
        """Token ids (B, T) -> what the model knows at each position (B, T, C).

        `mask` (B, 1, 1, T) or (B, 1, T, T) is True where a token may be looked at: no padding, no other example of a
        packed row. `positions` (B, T) if not 0, 1, ...; `segments` (B, T), 0 if not given. With `only` (B, T) the last
        block answers where that is True, at N positions, (N, C): a sixth of the work of four layers is saved.
        """
        T = ids.shape[1]
        if self.config.block_size < T:
            raise ValueError(f"{T} tokens are more than the model's block_size of {self.config.block_size}")
        if positions is None:
            positions = torch.arange(T, device=ids.device)
        x = self.token_embedding(ids)  # (B, T, C)
        if self.config.positions == "learned":
            x = x + self.position_embedding(positions)
        if self.config.segment_count:
            x = x + self.segment_embedding(torch.zeros_like(ids) if segments is None else segments)
        x = self.dropout(self.embedding_norm(x))
        for block in self.blocks[:-1]:
            x = block(x, positions, mask)
        return self.norm(self.blocks[-1](x, positions, mask, only))

    def head(self, hidden):
        """(..., C) -> logits (..., V): dense, GELU, LayerNorm, then the token embedding as a decoder, and a bias."""
        return F.linear(self.transform_norm(F.gelu(self.transform(hidden))), self.head_weight, self.output_bias)

    def pooled(self, hidden):
        """(..., C) of [CLS] -> (..., C): what is known of a row as a whole, for the next-sentence head."""
        return self.pooler(hidden).tanh()

    def forward(self, ids, targets=None, positions=None, mask=None, segments=None, follows=None):
        """ids (B, T) -> (logits (B, T, V), None); with targets (B, T), -100 but at hidden tokens, -> (None, mean loss).

        With `follows` (B, T), 0 or 1 at a pair's [CLS] and else -100, the next-sentence loss is added. Only hidden
        tokens go through the head.
        """
        if targets is None:
            return self.head(self.hidden(ids, positions, mask, segments)), None
        counted = targets != -100
        pairs = torch.zeros_like(counted) if follows is None else follows != -100
        only = counted | pairs
        hidden = self.hidden(ids, positions, mask, segments, only)  # (N, C)
        logits = self.head(hidden[counted[only]]).float()  # (N, V)
        loss = F.cross_entropy(logits, targets[counted], reduction="sum") / counted.sum().clamp(min=1)
        if follows is not None:
            loss = loss + F.cross_entropy(self.next_sentence(self.pooled(hidden[pairs[only]])).float(), follows[pairs])
        return None, loss


def mean_pooled(hidden, real):
    """(B, T, C), and (B, T) that is True but at padding -> (B, C) of length 1: the direction of a sentence.

    Reimers and Gurevych 2019, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", section 3.
    """
    weights = real.to(hidden.dtype)[:, :, None]
    return F.normalize((hidden * weights).sum(1) / weights.sum(1).clamp(min=1), dim=-1)
