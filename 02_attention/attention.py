"""Attention, in the order of the lesson: one head, many, only backwards, to another text, in groups.

Shapes: B sequences, T positions that look, S positions that are looked at, C = embedding size,
nh heads of size hs = C / nh. A mask is True where a position may be looked at and broadcasts to (B, nh, T, S).
"""

from attend import attend, attend_back, causal_mask, join_heads, split_heads
from formulas import attention_weights
from torch import nn


class SingleHeadAttention(nn.Module):
    """Each position of x (B, T, C) looks at all of them and returns a mixture of their values (B, T, hs).

    Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1, equation 1.
    """

    def __init__(self, embedding_size, head_size, bias=False):
        super().__init__()
        self.query = nn.Linear(embedding_size, head_size, bias=bias)  # what a position looks for
        self.key = nn.Linear(embedding_size, head_size, bias=bias)  # what it can be found by
        self.value = nn.Linear(embedding_size, head_size, bias=bias)  # what it then gives

    def weights(self, x, mask=None):
        return attention_weights(self.query(x), self.key(x), mask)  # (B, T, T)

    def forward(self, x, mask=None):
        return self.weights(x, mask) @ self.value(x)


class MultiHeadAttention(nn.Module):
    """Several heads, each on its own share of the embedding, as one batched product: (B, T, C) -> (B, T, C).

    Vaswani et al. 2017, section 3.2.2.
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
        qkv = self.query_key_value(x)  # (B, T, 3C)
        return [split_heads(each, self.head_count) for each in qkv.chunk(3, dim=-1)]

    def weights(self, x, mask=None):
        q, k, _ = self.heads(x)
        return attention_weights(q, k, mask)  # (B, nh, T, T)

    def forward(self, x, mask=None):
        q, k, v = self.heads(x)
        y = attend(q, k, v, mask, self.dropout if self.training else 0.0, self.fused)  # (B, nh, T, hs)
        return self.projection(join_heads(y))


class CausalSelfAttention(MultiHeadAttention):
    """Each position looks back only: at itself and what came before, or the last `window` of these.

    Where x stands must be in x already: `positions` is taken for the sake of a common call, and not needed.
    With a `cache` (key_value_cache.py), x continues what the cache holds.
    Vaswani et al. 2017, section 3.2.3, third point.
    """

    def __init__(self, embedding_size, head_count, dropout=0.0, bias=True, fused=True, window=None):
        super().__init__(embedding_size, head_count, dropout, bias, fused)
        self.window = window
        # what a token leaves in a cache: (heads, size) of its keys and of its values
        self.cached_sizes = ((head_count, embedding_size // head_count),) * 2

    def weights(self, x, positions=None, mask=None):
        T = x.shape[1]
        return super().weights(x, causal_mask(T, T, self.window, mask=mask, device=x.device))

    def forward(self, x, positions=None, mask=None, cache=None):
        q, k, v = self.heads(x)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, nh, S, hs)
        dropout = self.dropout if self.training else 0.0
        y = attend_back(q, k, v, mask, self.window, cache, dropout, self.fused)  # (B, nh, T, hs)
        return self.projection(join_heads(y))


class CrossAttention(nn.Module):
    """Each position of x (B, T, C) looks at another text, or image (B, S, C'): the queries are from x.

    The report takes "the key and query vectors" from the other language. In the paper they are "the memory
    keys and values": the queries ask for the target, so that as many answers return as it has words.
    Vaswani et al. 2017, section 3.2.3, first point.
    """

    def __init__(self, embedding_size, head_count, other_size=None, dropout=0.0, bias=True, fused=True):
        super().__init__()
        if embedding_size % head_count:
            raise ValueError(f"embedding_size {embedding_size} must be divisible by head_count {head_count}")
        self.head_count = head_count
        self.dropout = dropout
        self.fused = fused
        self.query = nn.Linear(embedding_size, embedding_size, bias=bias)
        self.key_value = nn.Linear(other_size or embedding_size, 2 * embedding_size, bias=bias)
        self.projection = nn.Linear(embedding_size, embedding_size, bias=bias)

    def heads(self, x, other):
        k, v = self.key_value(other).chunk(2, dim=-1)  # (B, S, C) each
        return [split_heads(each, self.head_count) for each in (self.query(x), k, v)]

    def weights(self, x, other, mask=None):
        q, k, _ = self.heads(x, other)
        return attention_weights(q, k, mask)  # (B, nh, T, S)

    def forward(self, x, other, mask=None):
        q, k, v = self.heads(x, other)
        y = attend(q, k, v, mask, self.dropout if self.training else 0.0, self.fused)  # (B, nh, T, hs)
        return self.projection(join_heads(y))


class GroupedQueryAttention(nn.Module):
    """Causal attention whose heads share keys and values in groups, so that a cache holds less of them.

    As many key/value heads as heads is multi-head, one is multi-query attention (Shazeer 2019). `rotary`
    (positions.py) turns queries and keys by their position; `qk_norm` keeps their length, as in Qwen 3.
    Llama: bias=False; Qwen 2: bias=True.
    Ainslie et al. 2023, "GQA: Training Generalized Multi-Query Transformer Models", section 2.2.
    """

    def __init__(self, embedding_size, head_count, key_value_head_count, head_size=None, rotary=None, qk_norm=False,
                 window=None, dropout=0.0, bias=False, projection_bias=False, fused=True, norm_epsilon=1e-6):
        super().__init__()
        if head_size is None and embedding_size % head_count:
            raise ValueError(f"embedding_size {embedding_size} must be divisible by head_count {head_count}")
        if head_count % key_value_head_count:
            raise ValueError(f"head_count {head_count} must be divisible by "
                             f"key_value_head_count {key_value_head_count}")
        head_size = head_size or embedding_size // head_count
        if rotary is not None and rotary.size != head_size:
            raise ValueError(f"rotary turns vectors of {rotary.size} numbers, but a head has {head_size}")
        self.head_count, self.key_value_head_count = head_count, key_value_head_count
        self.rotary, self.window, self.dropout, self.fused = rotary, window, dropout, fused
        self.cached_sizes = ((key_value_head_count, head_size),) * 2
        self.query = nn.Linear(embedding_size, head_count * head_size, bias=bias)
        self.key = nn.Linear(embedding_size, key_value_head_count * head_size, bias=bias)
        self.value = nn.Linear(embedding_size, key_value_head_count * head_size, bias=bias)
        self.projection = nn.Linear(head_count * head_size, embedding_size, bias=projection_bias)
        self.query_norm = nn.RMSNorm(head_size, norm_epsilon) if qk_norm else nn.Identity()
        self.key_norm = nn.RMSNorm(head_size, norm_epsilon) if qk_norm else nn.Identity()

    def heads(self, x, positions=None):
        """Queries (B, nh, T, hs), keys and values (B, nkv, T, hs)."""
        q = self.query_norm(split_heads(self.query(x), self.head_count))
        k = self.key_norm(split_heads(self.key(x), self.key_value_head_count))
        if self.rotary is not None:
            q, k = self.rotary(q, positions), self.rotary(k, positions)
        return q, k, split_heads(self.value(x), self.key_value_head_count)

    def weights(self, x, positions=None, mask=None):
        T = x.shape[1]
        q, k, _ = self.heads(x, positions)
        k = k.repeat_interleave(self.head_count // self.key_value_head_count, dim=1)  # (B, nh, T, hs)
        return attention_weights(q, k, causal_mask(T, T, self.window, mask=mask, device=x.device))  # (B, nh, T, T)

    def forward(self, x, positions=None, mask=None, cache=None):
        if positions is None and cache is not None:
            positions = cache.next_positions(x.shape[1])
        q, k, v = self.heads(x, positions)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, nkv, S, hs)
        dropout = self.dropout if self.training else 0.0
        y = attend_back(q, k, v, mask, self.window, cache, dropout, self.fused)  # (B, nh, T, hs)
        return self.projection(join_heads(y))
