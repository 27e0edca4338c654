"""Measure attention as it is written beside fused attention, and what each kind keeps in a cache.

    python 02_attention/benchmark.py      # two minutes; figures/, and the table in README.md
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
import measure
from attention import CausalSelfAttention, GroupedQueryAttention
from key_value_cache import KeyValueCache
from latent_attention import MultiHeadLatentAttention
from positions import Rotary, rotary_frequencies

HERE = Path(__file__).resolve().parent
SIZE, HEADS, LONGEST = 512, 8, 4096
LENGTHS = (256, 512, 1024, 2048, 4096)


def kinds():
    """One of each kind, of the same width and number of heads."""
    head_size = SIZE // HEADS
    rotary = Rotary(rotary_frequencies(head_size), LONGEST)
    rotary_half = Rotary(rotary_frequencies(head_size // 2), LONGEST, interleaved=True)
    return {
        "multi-head": CausalSelfAttention(SIZE, HEADS),
        "grouped-query, 2 key/value heads": GroupedQueryAttention(SIZE, HEADS, 2, rotary=rotary),
        "multi-query": GroupedQueryAttention(SIZE, HEADS, 1, rotary=rotary),
        "latent, of 128 numbers": MultiHeadLatentAttention(SIZE, HEADS, 128, head_size, rotary_half),
    }


@torch.no_grad()
def forward_once(form, length):
    """In a process of its own: seconds of one forward pass, and the memory that it took at its peak."""
    torch.manual_seed(0)
    attention, x = CausalSelfAttention(SIZE, HEADS, fused=form == "fused"), torch.randn(1, length, SIZE)
    attention(x[:, :64])  # what is set up once
    before = measure.peak_memory()
    seconds = [measure.seconds(partial(attention, x)) for _ in range(3)]
    peak = measure.peak_memory() - before
    print(json.dumps({"s": float(np.median(seconds)), "MB": peak}))


def length_rows(rounds):
    for length in LENGTHS:
        print(f"{length:,} tokens", flush=True)
        fused, plain = measure.in_turn(*(partial(measure.in_process, "--forward", form, str(length))
                                         for form in ("fused", "plain")), rounds=rounds)
        for unit, what in (("s", "causal attention"), ("MB", "its memory")):
            sides = [[max(one[unit], 0.1) if unit == "MB" else one[unit] for one in side] for side in (fused, plain)]
            yield measure.row(f"{what}, {length:,} tokens, fused beside plain", unit, sides[0], "plain", sides[1])


def exponents(rows):
    """By which power of the length the time and memory of the longest three grow: the slope in a log-log plot."""
    for unit in ("s", "MB"):
        for side in ("ours", "theirs"):
            values = [np.median(row[side]) for row in rows if row["unit"] == unit][-3:]
            yield float(np.polyfit(np.log(LENGTHS[-3:]), np.log(values), 1)[0])


@torch.no_grad()
def decoding_row(name, attention, rounds, length=1024):
    """The next token after a text, with what a cache remembers and with the whole text once more."""
    attention.eval()
    x = torch.randn(1, length, SIZE)
    cache = KeyValueCache(attention.cached_sizes, 1, LONGEST)
    attention(x[:, :-1], cache=cache)
    whole = attention(x)[:, -1:]

    def step():
        cache.length = length - 1
        return attention(x[:, -1:], cache=cache)

    if not torch.allclose(step(), whole, atol=1e-4):
        sys.exit(f"{name}: the cache gives another token, the times can't be compared")
    what = f"token {length:,}, {name}, {cache.bytes_per_token:,} bytes a token in the cache"
    return measure.seconds_in_turn(what, step, "without a cache", partial(attention, x), rounds)


def main():
    if sys.argv[1:2] == ["--forward"]:
        forward_once(sys.argv[2], int(sys.argv[3]))
        return
    parser = flags.Parser("Measure attention as it is written beside fused attention, and caches.")
    args = measure.arguments(parser, rounds=3)
    torch.manual_seed(0)
    rows = list(length_rows(args.rounds))
    growth = "Growth with the length: time by the power {:.1f} fused and {:.1f} plain, memory by {:.1f} and {:.1f}."
    notes = [growth.format(*exponents(rows))]
    rows += [decoding_row(name, attention, 7 * args.rounds) for name, attention in kinds().items()]
    results = {"machine": measure.machine("torch"), "rounds": args.rounds, "rows": rows, "notes": notes}
    measure.publish(results, HERE, args.print_only)


if __name__ == "__main__":
    flags.run(main)
