"""The same model, laid out for writing: one token at a time, at the speed at which memory gives its weights.

    model = FastDecode(model, torch.bfloat16)
    sampling.generate(model, ids, 100)

With one row per step, each weight is read for a single product: the time is that of reading them all. What else costs
is spared here: matrices that meet the same vector become one, modules become plain calls, and of the ways in which
torch multiplies a matrix with a row, the one is taken that is fastest for this size on this machine. The price is
memory: prompts go through the model itself, so its weights stay, and most of them are held a second time.
"""

import sys
import time
from functools import cache, partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
from attend import attend_back, join_heads
from attention import CausalSelfAttention
from blocks import SwiGLU


def as_rows(x, weight, bias):
    """The product as training has it."""
    return F.linear(x, weight, bias)


def as_vector(x, weight, bias):
    """That of a single row, as a matrix with a vector."""
    y = torch.mv(weight, x.flatten()) if bias is None else torch.addmv(bias, weight, x.flatten())
    return y.view(*x.shape[:-1], -1)


def as_packed(x, packed, bias):
    """With the matrix in the order in which oneDNN reads it: what torch.compile does with frozen weights."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def pack(weight):
    """The matrix in that order, as a copy; None where there is no oneDNN, or none for this dtype."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return None
    try:
        return torch.ops.mkldnn._reorder_linear_weight(weight, 16)  # 16 rows or fewer at a time
    except RuntimeError:  # bfloat16 on a processor without AVX-512
        return None


@cache
def fastest(rows, shape, dtype, device):
    """Which of the three is the fastest here, for so many rows and a matrix of this shape."""
    if device.type != "cpu":  # an accelerator would have to be waited for, and has no packed form
        return as_rows
    x = torch.zeros(rows, 1, shape[1], dtype=dtype, device=device)
    # more bytes than a cache holds, as when a model writes: each matrix has to come from memory
    count = min(64, 1 + 2**28 // (shape[0] * shape[1] * dtype.itemsize))
    weights = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(count)]
    forms: dict = {as_rows: weights}
    if rows == 1:
        forms[as_vector] = weights
    if (packed := [pack(weight) for weight in weights])[0] is not None:
        forms[as_packed] = packed
    seconds = {product: [] for product in forms}
    for i in range(max(10, count)):
        for product, taken in seconds.items():
            began = time.perf_counter()
            product(x, forms[product][i % count], None)
            taken.append(time.perf_counter() - began)
    return min(seconds, key=lambda product: median(seconds[product]))


class Product:
    """x (B, 1, C) -> its products with one or several matrices side by side (B, 1, sum of their sizes)."""

    def __init__(self, weights, biases=(None,)):
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        self.bias = None if biases[0] is None else torch.cat(biases)
        self.one, self.many = (fastest(rows, weight.shape, weight.dtype, weight.device) for rows in (1, 16))
        packed = pack(weight) if as_packed in (self.one, self.many) else None
        self.weight_of_one, self.weight_of_many = (packed if product is as_packed else weight
                                                   for product in (self.one, self.many))

    def __call__(self, x):
        if len(x) == 1:
            return self.one(x, self.weight_of_one, self.bias)
        return self.many(x, self.weight_of_many, self.bias)


def product_of(*linears):
    """Linear layers that meet the same vector, as one."""
    return Product([linear.weight.data for linear in linears],
                   [None if linear.bias is None else linear.bias.data for linear in linears])


def norm_function(norm):
    """A norm module as a plain call."""
    if isinstance(norm, nn.LayerNorm):
        return partial(F.layer_norm, normalized_shape=norm.normalized_shape, weight=norm.weight, bias=norm.bias,
                       eps=norm.eps)
    if isinstance(norm, nn.RMSNorm):
        return partial(F.rms_norm, normalized_shape=norm.normalized_shape, weight=norm.weight, eps=norm.eps)
    return norm


class FastBlock:
    """One block's step for the newest token of each row: x (B, 1, C) -> (B, 1, C)."""

    def __init__(self, block):
        attention, feed_forward = block.attention, block.feed_forward
        self.attention_norm = norm_function(block.attention_norm)
        self.feed_forward_norm = norm_function(block.feed_forward_norm)
        self.rotary, self.window = getattr(attention, "rotary", None), attention.window
        if isinstance(attention, CausalSelfAttention):
            self.query_key_value = product_of(attention.query_key_value)
            self.heads = (attention.head_count,) * 3
            self.query_norm = self.key_norm = nn.Identity()
        else:
            self.query_key_value = product_of(attention.query, attention.key, attention.value)
            self.heads = (attention.head_count, attention.key_value_head_count, attention.key_value_head_count)
            self.query_norm, self.key_norm = norm_function(attention.query_norm), norm_function(attention.key_norm)
        self.attention_projection = product_of(attention.projection)
        self.gated = isinstance(feed_forward, SwiGLU)
        if self.gated:
            self.expand = product_of(feed_forward.gate, feed_forward.expand)
        else:
            self.expand, self.activation = product_of(feed_forward.expand), feed_forward.activation
        self.projection = product_of(feed_forward.projection)

    def __call__(self, x, positions, mask, cache):
        qkv = self.query_key_value(self.attention_norm(x)).unflatten(-1, (sum(self.heads), -1))  # (B, 1, heads, hs)
        q, k, v = qkv.transpose(1, 2).split(self.heads, dim=1)  # (B, nh, 1, hs), and twice (B, nkv, 1, hs)
        q, k = self.query_norm(q), self.key_norm(k)
        if self.rotary is not None:
            q, k = self.rotary(q, positions), self.rotary(k, positions)
        k, v = cache.append(k, v)
        x = x + self.attention_projection(join_heads(attend_back(q, k, v, mask, self.window, cache)))
        inner = self.expand(self.feed_forward_norm(x))
        if self.gated:
            gate, inner = inner.chunk(2, dim=-1)
            return x + self.projection(F.silu(gate) * inner)
        return x + self.projection(self.activation(inner))


class FastDecode(nn.Module):
    """A GPT for `sampling.generate`, with the `config`, `new_cache`, `hidden` and `head` of the model that it is given.

    The model's weights become `dtype` in place; tables of positions stay as they are. Prompts go through the model
    itself. Raises ValueError for models with parts that are not laid out here: experts, latent attention.
    """

    def __init__(self, model, dtype=torch.float32):
        super().__init__()
        if model.config.attention not in ("multi_head", "grouped_query") or model.config.expert_count:
            raise ValueError("experts and latent attention have no fast form: let the model itself write")
        self.model, self.config, self.new_cache = model.eval(), model.config, model.new_cache
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        with torch.no_grad():
            self.blocks = [FastBlock(block) for block in model.blocks]
            self.norm = norm_function(model.norm)
            self.output = Product([model.head_weight.data])

    @property
    def head_weight(self):
        return self.model.head_weight

    def hidden(self, ids, positions=None, mask=None, cache=None):
        if ids.shape[1] > 1 or not cache or not cache[0].length:
            return self.model.hidden(ids, positions, mask, cache)
        return self.step(ids, cache[0].next_positions(1) if positions is None else positions, mask, cache)

    def step(self, ids, positions, mask, cache):
        """The newest token of each row, ids (B, 1) -> (B, 1, C)."""
        x = self.model.embed(ids, positions, cache)
        for block, memory in zip(self.blocks, cache):
            x = block(x, positions, mask, memory)
        return self.norm(x)

    def head(self, hidden):
        """(B, C) -> logits (B, V)."""
        return self.output(hidden[:, None])[:, 0]


def for_writing(model, dtype):
    """(the model in its fast form with weights of that dtype, float32 for autocast) if it has one; else as it is."""
    try:
        return FastDecode(model, dtype), torch.float32
    except ValueError:
        return model, dtype
