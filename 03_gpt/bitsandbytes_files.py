"""Matrices that bitsandbytes saved in 4 bits (NF4 or FP4), as the float32 that they stand for.

Beside `x.weight`, two weights a byte, a file has x.weight.quant_map, the 16 values that 4 bits mean, and
x.weight.absmax, by which those of a block of weights are multiplied. If the absmaxes are bytes themselves, their 256
values are in .nested_quant_map, and what those are multiplied by in .nested_absmax. A tensor of bytes,
x.weight.quant_state.bitsandbytes__nf4, holds the other settings as JSON. What the 4 bits are: 04_training/nf4.py.
"""

import json
import math
import re
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from flags import UserError, shown
from weight_files import Stored

STATE = re.compile(r"(.+)\.quant_state\.bitsandbytes__(?:nf4|fp4)")


def described_as_dense(described):
    """config.json without its quantization_config, if that only says that bitsandbytes saved matrices in 4 bits."""
    said = described.get("quantization_config") or {}
    four_bits = said.get("load_in_4bit") and said.get("quant_method", "bitsandbytes") == "bitsandbytes"
    return described | {"quantization_config": None} if four_bits else described


def dequantised(weights):
    """{name: Stored} of a file, each matrix of 4 bits and what stands beside it as one Stored in float32."""
    dense = dict(weights)
    for key in weights:
        if not (found := STATE.fullmatch(key)):
            continue
        name, path = found[1], weights[key].path
        try:
            state = json.loads(bytes(dense.pop(key).read().tolist()))
            shape, block, outer_block, offset = tuple(map(int, state["shape"])), int(state["blocksize"]), None, None
            sizes = {"quant_map": 16, "absmax": -(-math.prod(shape) // block)}
            if "nested_offset" in state:
                outer_block, offset = int(state["nested_blocksize"]), float(state["nested_offset"])
                sizes |= {"nested_quant_map": 256, "nested_absmax": -(-sizes["absmax"] // outer_block)}
            packed, parts = dense[name], {part: dense.pop(f"{name}.{part}") for part in sizes}
            for part, size in sizes.items():
                if math.prod(parts[part].shape) != size:
                    raise ValueError(f"{part} of the shape {parts[part].shape} instead of {size} numbers")
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            raise UserError(f"{shown(path)} has no sound 4 bits for {name} ({error!r}): download it again") from error
        dense[name] = Stored(path, shape, partial(dequantise, name, packed, parts, shape, block, outer_block, offset))
    return dense


def dequantise(name, packed, parts, shape, block, outer_block, offset):
    """The matrix: for each weight, the value of its 4 bits x the absmax of its block."""
    data, tensors = packed.read().flatten().view(torch.uint8), {part: each.read() for part, each in parts.items()}
    count = math.prod(shape)
    if len(data) != -(-count // 2):
        raise UserError(f"{shown(packed.path)} has {len(data)} bytes for {count} weights of {name}: download it again")
    absmax, values = tensors["absmax"], tensors["quant_map"].float()
    if offset is not None:
        outer = tensors["nested_absmax"].repeat_interleave(outer_block)[: len(absmax)]
        absmax = tensors["nested_quant_map"][absmax.int()] * outer + offset
    pairs = torch.cartesian_prod(values, values)  # (256, 2): the first weight is the upper half of the byte
    weights = pairs[data.int()].flatten()[:count]
    return (weights * absmax.float().repeat_interleave(block)[:count]).view(shape)
