"""The same model, laid out for writing: one token at a time, at the speed at which memory gives its weights.

    model = FastDecode(model, torch.bfloat16)
    sampling.generate(model, ids, 100)

With one row per step, each weight is read for a single product: the time is that of reading them all. What else costs
is spared here: matrices that meet the same vector become one, modules become plain calls, and of the ways in which
torch multiplies a matrix with a vector, the one is taken that is fastest for this size on this machine.
"""

import sys
import time
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
from attend import attend_back, join_heads
from attention import CausalSelfAttention
from blocks import SwiGLU


def as_rows(x, weight, bias=None):
    return F.linear(x, weight, bias)


def as_vector(x, weight, bias=None):
    """The product of one row, as a matrix with a vector."""
    y = torch.mv(weight, x.flatten()) if bias is None else torch.addmv(bias, weight, x.flatten())
    return y.view(*x.shape[:-1], -1)


@cache
def fastest_product(rows, columns, dtype, device, tries=20):
    """One of the two functions above: whichever is faster with a matrix of this size here and now."""
    x, weight = (torch.zeros(*shape, dtype=dtype, device=device) for shape in ((1, 1, columns), (rows, columns)))
    seconds = {as_rows: [], as_vector: []}
    for _ in range(tries):
        for product, taken in seconds.items():
            began = time.perf_counter()
            product(x, weight)
            taken.append(time.perf_counter() - began)
    return min(seconds, key=lambda product: min(seconds[product]))  # the least disturbed try of each


class Product:
    """x (B, 1, C) -> its products with one or several matrices side by side (B, 1, sum of their sizes)."""

    def __init__(self, weights, biases=(None,)):
        self.weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        self.bias = None if biases[0] is None else torch.cat(biases)
        self.for_one_row = fastest_product(*self.weight.shape, self.weight.dtype, self.weight.device)

    def __call__(self, x):
        product = self.for_one_row if len(x) == 1 else as_rows
        return product(x, self.weight, self.bias)


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
        self.attention_norm, self.feed_forward_norm = norm_function(block.attention_norm), norm_function(
            block.feed_forward_norm)
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
        if positions is None:
            positions = cache[0].next_positions(1)
        x = F.embedding(ids, self.model.token_embedding.weight)
        if self.config.positions == "learned":
            x = x + self.model.position_embedding(positions)
        for block, memory in zip(self.blocks, cache):
            x = block(x, positions, mask, memory)
        return self.norm(x)

    def head(self, hidden):
        """(B, C) -> logits (B, V)."""
        return self.output(hidden[:, None])[:, 0]
