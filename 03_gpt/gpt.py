"""A gpt2-style language model, to be read beside the report's section on self-attention.

Token and position embeddings are added, pass through a stack of transformer blocks, and the head
turns the result into a score for every token of the vocabulary: the logits. What the family became
since (Llama, Qwen, mixtures of experts) is the same model with other parts, which the config names.
Shapes: B sequences, T positions, C = embedding size, V = vocabulary size.
"""

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
from blocks import make_attention, make_feed_forward, make_norm, make_rotary
from key_value_cache import KeyValueCache
from linear_cross_entropy import linear_cross_entropy
from ngram_embedding import NGramEmbedding
from positions import LearnedPositions

KINDS = {  # of the parts of a model
    "positions": ("learned", "rotary"),
    "norm": ("layer_norm", "rms_norm", "none"),
    "attention": ("multi_head", "grouped_query", "latent", "original_scale"),
    "feed_forward": ("gelu", "exact_gelu", "relu", "relu2", "swiglu"),
    "bias": ("all", "query_key_value", "none"),  # of GPT-2, Qwen 2, Llama
}


@dataclass
class GPTConfig:
    """The shape of a model; a checkpoint stores it beside the weights. The defaults are GPT-2's."""

    vocab_size: int
    embedding_size: int
    block_size: int
    head_count: int
    layer_count: int
    dropout: float = 0.0
    # what the family became
    positions: str = "learned"  # KINDS has the others of these five
    norm: str = "layer_norm"
    attention: str = "multi_head"
    feed_forward: str = "gelu"
    bias: str = "all"
    tied_head: bool = True  # the head is the token embedding
    ngram_longest: int = 0  # vectors for 2, 3, ... tokens in a row are added to those of tokens
    ngram_rows: int = 2**17
    ngram_dropout: float = 0.0
    # sizes that follow from the others where they are None or 0
    feed_forward_size: int | None = None
    head_size: int | None = None
    key_value_head_count: int | None = None
    qk_norm: bool = False
    window: int | None = None
    window_layers: int | None = None  # how many of the first blocks look no further than the window; None is all
    norm_epsilon: float = 1e-5
    rotary_base: float = 10000.0
    rotary_size: int | None = None
    rotary_scaling: dict | None = None  # Llama 3's: factor, low_freq_factor, high_freq_factor, ...
    rotary_interleaved: bool = False
    latent_size: int | None = None
    query_latent_size: int | None = None
    expert_count: int = 0
    experts_per_token: int = 2
    expert_size: int | None = None
    shared_expert_size: int = 0
    balance: str | None = "loss"  # or "bias": how experts are kept equally busy

    def __post_init__(self):
        for part, kinds in KINDS.items():
            if getattr(self, part) not in kinds:
                raise ValueError(f"no {part} '{getattr(self, part)}': choose from {', '.join(kinds)}")
        if self.attention == "original_scale" and (self.positions == "rotary" or self.window):
            raise ValueError("original_scale goes with learned positions, and without a window")
        if self.attention == "latent" and (self.window or self.qk_norm):
            raise ValueError("latent attention has no window, and no qk_norm")


# the parts of two families
FAMILIES = {
    "gpt2": {},
    "llama": {"positions": "rotary", "norm": "rms_norm", "feed_forward": "swiglu", "bias": "none"},
}

# the shapes of published models
SIZES = {
    "gpt2": GPTConfig(50257, 768, 1024, 12, 12),
    "gpt2-medium": GPTConfig(50257, 1024, 1024, 16, 24),
    "gpt2-large": GPTConfig(50257, 1280, 1024, 20, 36),
    "gpt2-xl": GPTConfig(50257, 1600, 1024, 25, 48),
    "llama-3.2-1b": GPTConfig(
        128256, 2048, 131072, 32, 16, positions="rotary", norm="rms_norm", attention="grouped_query",
        feed_forward="swiglu", bias="none", feed_forward_size=8192, head_size=64, key_value_head_count=8,
        rotary_base=500000.0, rotary_scaling={"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                              "original_max_position_embeddings": 8192}),
    "qwen3-0.6b": GPTConfig(
        151936, 1024, 40960, 16, 28, positions="rotary", norm="rms_norm", attention="grouped_query",
        feed_forward="swiglu", bias="none", feed_forward_size=3072, head_size=128, key_value_head_count=8,
        qk_norm=True, norm_epsilon=1e-6, rotary_base=1000000.0),
    "smollm2-135m": GPTConfig(
        49152, 576, 8192, 9, 30, positions="rotary", norm="rms_norm", attention="grouped_query",
        feed_forward="swiglu", bias="none", feed_forward_size=1536, key_value_head_count=3, rotary_base=100000.0),
}


class Block(nn.Module):
    """Attention, then feed-forward, each on a normalised copy, each added to what came in.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
    """

    def __init__(self, config, rotary=None):
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = make_attention(config, rotary)
        self.feed_forward_norm = make_norm(config)
        self.feed_forward = make_feed_forward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, positions=None, mask=None, cache=None):
        x = x + self.dropout(self.attention(self.attention_norm(x), positions, mask, cache))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class GPT(nn.Module):
    """Ids (B, T) -> logits (B, T, V): embeddings, a stack of blocks, a last norm, and the head.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
    """

    blocks: Any  # an nn.ModuleList of Block

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        if config.positions == "learned":
            self.position_embedding = LearnedPositions(config.block_size, config.embedding_size)
        if config.ngram_longest:
            self.ngram_embedding = NGramEmbedding(
                config.vocab_size, config.embedding_size, config.ngram_longest, config.ngram_rows, config.ngram_dropout)
        self.dropout = nn.Dropout(config.dropout)
        rotary = make_rotary(config)  # one for all blocks
        near = config.layer_count if config.window_layers is None else config.window_layers
        far = replace(config, window=None)
        self.blocks = nn.ModuleList(Block(config if i < near else far, rotary) for i in range(config.layer_count))
        self.norm = make_norm(config)
        if not config.tied_head:
            self.output = nn.Linear(config.embedding_size, config.vocab_size, bias=False)
        self.apply(self.initialise)

    def initialise(self, module):
        """GPT-2's: normal, of deviation 0.02, and smaller where 2 x layer_count results are added up.

        Embeddings have 0.02 at GPT-2's width of 768 and more in narrower models, positions half of it; beside vectors
        of n-grams, which begin at 0 and grow fast, those of tokens have 0.5.
        Radford et al. 2019, section 2.3, and the published code.
        """
        embedding_std = 0.5 if self.config.ngram_longest else 0.02 * math.sqrt(768 / self.config.embedding_size)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(projection := getattr(module, "projection", None), nn.Linear):
            nn.init.normal_(projection.weight, std=0.02 / math.sqrt(2 * self.config.layer_count))
        elif module is self:
            nn.init.normal_(self.token_embedding.weight, std=embedding_std)
            if self.config.positions == "learned":
                nn.init.normal_(self.position_embedding.weight, std=embedding_std / 2)
            if self.config.ngram_longest:
                nn.init.zeros_(self.ngram_embedding.table.weight)

    def parameter_count(self):
        return sum(parameter.numel() for parameter in self.parameters())

    def new_cache(self, batch_size, length=None, padding=None):
        """Empty memory for `length` tokens (all that the model can attend to, if not given): one cache per layer.

        The n-gram embedding, if there is one, has its own behind them.
        """
        weight = self.token_embedding.weight
        length = min(length or self.config.block_size, self.config.block_size)
        sizes = batch_size, length, padding
        caches = [KeyValueCache(block.attention.cached_sizes, *sizes, weight.dtype, weight.device)
                  for block in self.blocks]
        if self.config.ngram_longest:
            caches.append(KeyValueCache(self.ngram_embedding.cached_sizes, *sizes, torch.long, weight.device))
        return caches

    def embed(self, ids, positions, cache=None):
        """(B, T) -> (B, T, C): what each token means, where it stands, and what it means after those before it."""
        x = self.token_embedding(ids)
        if self.config.positions == "learned":
            x = x + self.position_embedding(positions)
        if self.config.ngram_longest:
            x = x + self.ngram_embedding(ids, positions, cache and cache[-1])
        return x

    def hidden(self, ids, positions=None, mask=None, cache=None):
        """Token ids (B, T) -> what the model knows at each position (B, T, C).

        `positions` (T,) or (B, T) say where the tokens stand, if not at 0, 1, ... or behind what `cache` holds; `mask`
        (B, 1, T, S) hides more than the future, where it is False.
        """
        T = ids.shape[1]
        if self.config.block_size < T:
            raise ValueError(f"{T} tokens are more than the model's block_size of {self.config.block_size}")
        if positions is None:
            positions = cache[0].next_positions(T) if cache else torch.arange(T, device=ids.device)
        x = self.dropout(self.embed(ids, positions, cache))  # (B, T, C)
        for block, memory in zip(self.blocks, cache or [None] * len(self.blocks)):
            x = block(x, positions, mask, memory)
        return self.norm(x)

    @property
    def head_weight(self):
        """(V, C): the token embedding turned round (tied weights), or a matrix of its own."""
        return self.token_embedding.weight if self.config.tied_head else self.output.weight

    def head(self, hidden):
        """(..., C) -> logits (..., V)."""
        return hidden @ self.head_weight.T

    def forward(self, ids, targets=None, positions=None, mask=None):
        """ids (B, T) -> (logits (B, T, V), None); with targets (B, T) -> (None, mean loss)."""
        hidden = self.hidden(ids, positions, mask)
        if targets is None:
            return self.head(hidden), None
        loss = linear_cross_entropy(hidden, self.head_weight, targets)
        if self.training and self.config.expert_count:
            loss = loss + sum(block.feed_forward.balance_loss for block in self.blocks)
        return None, loss
