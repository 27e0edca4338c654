"""Attention that remembers one short vector per token, from which it makes the keys and values of all heads.

Shapes: B sequences, T positions that look, S positions that are looked at, C = embedding size, nh heads,
hs = size of a head's key without position, vs = of its value, r = of the part with position, L = of the latent vector.
The names of the equations are those of DeepSeek-V2, section 2.1.
"""

import math

import torch
import torch.nn.functional as F
from attend import attend_back, causal_mask, join_heads, split_heads
from formulas import attention_weights, softmax
from torch import nn


class MultiHeadLatentAttention(nn.Module):
    """Causal attention with low-rank keys and values, and with position in a part of its own: (B, T, C) -> (B, T, C).

    The cache holds the latent vector and one rotary key for all heads: L + r numbers per token instead of 2 nh hs.
    A rotation between the latent vector and the key would depend on the token, and `absorbed` could not move the
    key's matrix over to the query: hence the separate rotary part. `rotary` (positions.py) turns vectors of size r;
    DeepSeek's weights want it interleaved. With query_latent_size the queries are low-rank, too.
    DeepSeek-AI 2024, "DeepSeek-V2", section 2.1, equations 9 to 19, and appendix C; the norms: section 3.1.2.
    """

    def __init__(self, embedding_size, head_count, latent_size, head_size, rotary, query_latent_size=None,
                 value_size=None, dropout=0.0, fused=True, norm_epsilon=1e-6):
        super().__init__()
        value_size = value_size or head_size
        self.head_count, self.latent_size = head_count, latent_size
        self.rotary, self.dropout, self.fused = rotary, dropout, fused
        self.cached_sizes = ((1, latent_size), (1, rotary.size))
        query_size = query_latent_size or embedding_size
        self.query_down = self.query_norm = nn.Identity()
        if query_latent_size:
            self.query_down = nn.Linear(embedding_size, query_latent_size, bias=False)  # W^DQ
            self.query_norm = nn.RMSNorm(query_latent_size, norm_epsilon)
        self.query_up = nn.Linear(query_size, head_count * head_size, bias=False)  # W^UQ
        self.rotary_query = nn.Linear(query_size, head_count * rotary.size, bias=False)  # W^QR
        self.key_value_down = nn.Linear(embedding_size, latent_size, bias=False)  # W^DKV
        self.key_value_norm = nn.RMSNorm(latent_size, norm_epsilon)
        self.rotary_key = nn.Linear(embedding_size, rotary.size, bias=False)  # W^KR
        self.key_up = nn.Linear(latent_size, head_count * head_size, bias=False)  # W^UK
        self.value_up = nn.Linear(latent_size, head_count * value_size, bias=False)  # W^UV
        self.projection = nn.Linear(head_count * value_size, embedding_size, bias=False)  # W^O

    def queries(self, x, positions=None):
        """The two parts of every head's query: (B, nh, T, hs) without position, (B, nh, T, r) with."""
        latent = self.query_norm(self.query_down(x))  # c^Q = W^DQ h (12)
        q = split_heads(self.query_up(latent), self.head_count)  # q^C = W^UQ c^Q (13)
        return q, self.rotary(split_heads(self.rotary_query(latent), self.head_count), positions)  # q^R (14)

    def latents(self, x, positions=None):
        """What is cached: the latent vectors (B, 1, T, L) and the rotary keys (B, 1, T, r), one for all heads."""
        latent = self.key_value_norm(self.key_value_down(x))  # c^KV = W^DKV h (9)
        rotary_key = self.rotary(self.rotary_key(x)[:, None], positions)  # k^R = RoPE(W^KR h) (15)
        return latent[:, None], rotary_key

    def keys(self, latent, rotary_key):
        k = split_heads(self.key_up(latent[:, 0]), self.head_count)  # k^C = W^UK c^KV (10), (B, nh, S, hs)
        return torch.cat([k, rotary_key.expand(-1, self.head_count, -1, -1)], dim=-1)  # [k^C; k^R] (17)

    def plain(self, q, rotary_q, latent, rotary_key, mask=None, cache=None, dropout=0.0):
        """Multi-head attention with the keys and values written out: (B, nh, T, vs)."""
        q = torch.cat([q, rotary_q], dim=-1)  # [q^C; q^R] (16), (B, nh, T, hs + r)
        v = split_heads(self.value_up(latent[:, 0]), self.head_count)  # v^C = W^UV c^KV (11), (B, nh, S, vs)
        # softmax(q k^T / sqrt(hs + r)) v (18)
        return attend_back(q, self.keys(latent, rotary_key), v, mask, None, cache, dropout, self.fused)

    def absorbed(self, q, rotary_q, latent, rotary_key, mask=None, cache=None, dropout=0.0):
        """The same from the latent vectors themselves, as if all heads shared one key: (B, nh, T, vs)."""
        latent, rotary_key = latent[:, 0], rotary_key[:, 0]  # (B, S, L), (B, S, r)
        key_up = self.key_up.weight.view(self.head_count, -1, self.latent_size)  # (nh, hs, L)
        value_up = self.value_up.weight.view(self.head_count, -1, self.latent_size)  # (nh, vs, L)
        # q . (W^UK c) = (W^UK^T q) . c: the key's matrix moves over to the query
        latent_q = q @ key_up  # (B, nh, T, L)
        scores = torch.einsum("bhtl,bsl->bhts", latent_q, latent) + torch.einsum("bhtr,bsr->bhts", rotary_q, rotary_key)
        padding = None if cache is None else cache.padding
        visible = causal_mask(q.shape[2], latent.shape[1], None, padding, mask, q.device)
        scores = scores / math.sqrt(q.shape[-1] + rotary_q.shape[-1])  # of the key as it was, not of the latent vector
        weights = F.dropout(softmax(scores.masked_fill(~visible, -math.inf)), dropout)
        # sum of w W^UV c = W^UV (sum of w c)
        return torch.einsum("bhts,bsl->bhtl", weights, latent) @ value_up.transpose(-2, -1)

    def weights(self, x, positions=None, mask=None):
        T = x.shape[1]
        q, k = torch.cat(self.queries(x, positions), dim=-1), self.keys(*self.latents(x, positions))
        return attention_weights(q, k, causal_mask(T, T, mask=mask, device=x.device))  # (B, nh, T, T)

    def forward(self, x, positions=None, mask=None, cache=None):
        if positions is None and cache is not None:
            positions = cache.next_positions(x.shape[1])
        q, rotary_q = self.queries(x, positions)
        latent, rotary_key = self.latents(x, positions)
        if cache is not None:
            latent, rotary_key = cache.append(latent, rotary_key)
        # Plain pays for each of the S keys anew, L x 2 hs products; absorbed for each pair of query and key, 2 (L - hs)
        # more: with a cache it is cheaper for up to about hs queries, and much cheaper for one
        T, S, head_size = q.shape[2], latent.shape[2], q.shape[3]
        form = self.plain if T == S or head_size < T else self.absorbed
        y = form(q, rotary_q, latent, rotary_key, mask, cache, self.dropout if self.training else 0.0)
        return self.projection(join_heads(y))  # u = W^O [o_1; ...; o_nh] (19)
