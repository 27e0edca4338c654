"""Weights in the files of other people: safetensors, GGUF (llama.cpp), llama2.c's .bin.

Each reader gives {name: Stored}, tensors that are read one at a time, when asked for: the shapes can be checked
before anything large is in memory.
"""

import json
import math
import re
import struct
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from flags import UserError, shown
from gguf_file import read_head


class Stored(NamedTuple):
    """A tensor in a file: `read()` brings it to memory."""

    path: Path
    shape: tuple
    read: Callable


# ---- safetensors: one file, or several and an index ----


def safetensors_weights(folder):
    """The tensors of model.safetensors, or of the files that model.safetensors.index.json names."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return one_safetensors(folder / "model.safetensors")
    weights = {}
    for name, tensors in shards(index).items():
        weights |= (found := one_safetensors(folder / name))
        for tensor in tensors:
            if tensor not in found:
                raise UserError(f"{shown(folder / name)} lacks the tensor {tensor}: download it again")
    return weights


def shards(index):
    """{name of a file: its tensors} that an index lists. Raises UserError if it is damaged."""
    files = {}
    try:
        for tensor, name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items():
            if not re.fullmatch(r"[\w-]+\.safetensors", name):
                raise ValueError(f"'{name}' is no file of its folder")
            files.setdefault(name, []).append(tensor)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{shown(index)} is damaged ({error!r}): download it again") from error
    return files


def one_safetensors(path):
    if not path.is_file():
        raise UserError(f"no file {shown(path)}: a model's folder holds config.json, tokenizer.json and its weights"
                        " as safetensors")
    try:
        file = safe_open(path, "pt")
        return {name: Stored(path, tuple(file.get_slice(name).get_shape()), partial(file.get_tensor, name))
                for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except SafetensorError as error:
        raise UserError(f"{shown(path)} is damaged or not whole ({error}): download it again") from error


# ---- GGUF: blocks of 32 weights that share a scale d, and a minimum m ----


def halves(blocks, first):
    """The float16 at byte `first` of each block, as float32 (n, 1)."""
    return blocks[:, first : first + 2].copy().view(np.float16).astype(np.float32)


def nibbles(blocks):
    """Bytes (n, 16) -> numbers of 4 bits (n, 32): the lower halves, then the upper ones."""
    return np.concatenate([blocks & 15, blocks >> 4], axis=1)


def q8_0(blocks):
    return halves(blocks, 0) * blocks[:, 2:].view(np.int8)  # w = d q


def q4_0(blocks):
    return halves(blocks, 0) * (nibbles(blocks[:, 2:]).view(np.int8) - np.int8(8))  # w = d (q - 8)


def q4_1(blocks):
    return halves(blocks, 0) * nibbles(blocks[:, 4:]) + halves(blocks, 2)  # w = d q + m


# ggml's number of a type: its name, weights and bytes of a block, and what makes float32 of blocks (n, bytes)
TYPES = {
    0: ("F32", 1, 4, lambda blocks: blocks.view(np.float32)),
    1: ("F16", 1, 2, lambda blocks: blocks.view(np.float16).astype(np.float32)),
    2: ("Q4_0", 32, 18, q4_0),
    3: ("Q4_1", 32, 20, q4_1),
    8: ("Q8_0", 32, 34, q8_0),
    30: ("BF16", 1, 2, lambda blocks: (blocks.view(np.uint16).astype(np.uint32) << 16).view(np.float32)),
}


def gguf_weights(path):
    """The pairs that describe the model, and its tensors. Raises ValueError if the file is no GGUF."""
    pairs, tensors = read_head(path)
    weights = {}
    for name, (kind, shape, first) in tensors.items():
        if kind not in TYPES:
            known = ", ".join(name for name, *_ in TYPES.values())
            raise UserError(f"{shown(path)} has the tensor {name} in ggml's type {kind}, which can't be read here:"
                            f" take a file in {known}")
        _, weights_per_block, block_bytes, dequantise = TYPES[kind]
        if shape[-1] % weights_per_block:
            raise UserError(f"{shown(path)} has the tensor {name} in rows of {shape[-1]}, no whole blocks:"
                            " download it again")
        size = math.prod(shape) // weights_per_block * block_bytes
        check_end(path, name, first + size)
        weights[name] = Stored(path, shape, partial(read_blocks, path, shape, first, size, block_bytes, dequantise))
    return pairs, weights


def read_blocks(path, shape, first, size, block_bytes, dequantise):
    blocks = np.fromfile(path, np.uint8, size, offset=first).reshape(-1, block_bytes)
    return torch.from_numpy(dequantise(blocks)).view(shape)


def check_end(path, name, end):
    if end > path.stat().st_size:
        raise UserError(f"{shown(path)} ends within the tensor {name}: download it again")


# ---- llama2.c ----


def llama2c_weights(path):
    """The seven numbers of the header, and the tensors under GGUF's names, whose order of rows is the same.

    Header: int32 width, feed-forward size, layers, heads, key/value heads, vocabulary (negative: the head has weights
    of its own), positions. Then float32, each for all layers. (github.com/karpathy/llama2.c, run.c)
    """
    with open(path, "rb") as file:
        numbers = struct.unpack("<7i", file.read(28))
    C, F, layers, heads, kv_heads, V, T = numbers
    if min(C, F, layers, heads, kv_heads, abs(V), T) < 1 or C % heads:
        raise ValueError(f"sizes {numbers} that no model has")
    kv = C // heads * kv_heads
    order = [  # positions: their cosines and sines, which we compute
        ("token_embd", False, (abs(V), C)), ("attn_norm", True, (C,)), ("attn_q", True, (C, C)),
        ("attn_k", True, (kv, C)), ("attn_v", True, (kv, C)), ("attn_output", True, (C, C)), ("ffn_norm", True, (C,)),
        ("ffn_gate", True, (F, C)), ("ffn_down", True, (C, F)), ("ffn_up", True, (F, C)), ("output_norm", False, (C,)),
        ("positions", False, (2, T, C // heads // 2)), *([("output", False, (-V, C))] if V < 0 else []),
    ]
    weights, first = {}, 28
    for name, in_layers, shape in order:
        for layer in range(layers if in_layers else 1):
            full = f"blk.{layer}.{name}.weight" if in_layers else f"{name}.weight"
            size = 4 * math.prod(shape)
            check_end(path, full, first + size)
            if name != "positions":
                weights[full] = Stored(path, shape, partial(read_blocks, path, shape, first, size, 4, TYPES[0][3]))
            first += size
    if first != path.stat().st_size:
        raise ValueError(f"{path.stat().st_size:,} bytes instead of {first:,}")
    return numbers, weights
