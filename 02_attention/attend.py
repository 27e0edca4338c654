"""softmax(Q K^T / sqrt(d_k)) V for all heads at once: as it is written or fused, and under which mask.

Shapes: B sequences, T positions that look, S positions that are looked at, nh heads of size hs.
A mask is True where a query may look at a key, and broadcasts to (B, nh, T, S).
"""

import torch
import torch.nn.functional as F
from formulas import attention_weights


def split_heads(x, head_count):
    """(B, T, nh * hs) -> (B, nh, T, hs)."""
    return x.unflatten(-1, (head_count, -1)).transpose(1, 2)


def join_heads(y):
    """(B, nh, T, hs) -> (B, T, nh * hs): the heads side by side."""
    return y.transpose(1, 2).flatten(2)


def attend(q, k, v, mask=None, dropout=0.0, fused=True):
    """Mix the values as the queries and keys want it: (B, nh, T, hs).

    With `fused` the scores never exist as a matrix; without, the formula is computed as it is written.
    Keys and values may have fewer heads than the queries: head h looks with number h // groups.
    """
    B, nh, T, hs = q.shape
    groups = nh // k.shape[1]
    if groups > 1 and T == 1 and (mask is None or mask.dim() < 4 or mask.shape[1] == 1):
        # while decoding: the queries of a group as rows of one product, so that no key is copied
        rows = q.reshape(B, nh // groups, groups, hs)  # (B, nkv, nh / nkv, hs)
        return attend(rows, k, v, mask, dropout, fused).reshape(B, nh, 1, v.shape[-1])
    if fused:
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, enable_gqa=groups > 1)
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)  # (B, nh, S, hs)
    # Dropout of the weights is GPT's (Radford et al. 2018, section 4.1); that of the first transformer
    # (Vaswani et al. 2017, section 5.4) acts on what a sub-layer returns: in the block of 03_gpt
    return F.dropout(attention_weights(q, k, mask), dropout) @ v  # Attention(Q, K, V) = weights V


def causal_mask(T, S, window=None, padding=None, mask=None, device=None):
    """Who may look back at whom, the T queries being the last of the S keys: T = 2, S = 3 -> [[1, 1, 0], [1, 1, 1]].

    With `window`, only at the last `window` positions, oneself included (Jiang et al. 2023, "Mistral 7B", section 2).
    With `padding` (B,), not at the first padding[b] positions of row b. With `mask`, only where that allows it, too.
    """
    keys = torch.arange(S, device=device)
    queries = keys[S - T :, None]
    visible = keys <= queries  # (T, S)
    if window is not None:
        visible = visible & (queries - keys < window)
    if padding is not None:
        visible = visible & (keys >= padding[:, None, None, None])  # (B, 1, T, S)
    if mask is not None:
        visible = visible & mask
    return visible | (keys == queries)  # padding sees at least itself: NaN in its row would spread to all others


def attend_back(q, k, v, mask=None, window=None, cache=None, dropout=0.0, fused=True):
    """`attend` under `causal_mask`, which is not written down where the fused function has it built in.

    With a `cache` (key_value_cache.py), k and v are what its `append` returned.
    """
    T, S = q.shape[2], k.shape[2]
    padding = None if cache is None else cache.padding
    only_causal = mask is None and window is None and padding is None
    if only_causal and fused and T == S:
        gqa = q.shape[1] > k.shape[1]
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=gqa)
    if not (only_causal and T == 1):  # the newest of all tokens may look at everything
        mask = causal_mask(T, S, window, padding, mask, q.device)
    return attend(q, k, v, mask, dropout, fused)
