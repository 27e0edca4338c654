"""Measure a training step of our KAN beside those of an MLP with as many parameters and of other KANs, in one run.

    python 06_kan/benchmark.py      # two minutes; figures/benchmark.json, and the table in README.md

Peers that are installed take part: pip install pykan scikit-learn inkan flashkan. Before a time is taken, each one's
curves are given to our KAN, which must have the same outputs. One thread, and all sides in turn, in one process.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
import measure
from kan_layer import KAN
from mlp import MLP
from peers import PEERS, as_ours

HERE = Path(__file__).resolve().parent
WIDTHS, MLP_WIDTHS, GRID, B = [784, 64, 10], [784, 575, 10], 5, 256  # both have 457 thousand parameters
STEPS = 3  # of which each round takes the mean
MODES = [("plain", "float32"), ("plain", "bfloat16"), ("compiled", "float32"), ("compiled", "bfloat16")]

# of one thread, the processor's time is that of the clock without other work; on Windows it ticks in 16 ms
CLOCK = time.perf_counter if os.name == "nt" else time.process_time


def training_step(model, x, y, mode, dtype):
    """A function that trains once on (x, y): forward pass, loss, backward pass, AdamW in one kernel."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    rounded = dtype == "bfloat16"

    def loss_of(x, y):
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            return F.cross_entropy(model(x).float(), y)

    compute = torch.compile(loss_of) if mode == "compiled" else loss_of

    def step():
        optimizer.zero_grad()
        compute(x, y).backward()
        optimizer.step()

    for _ in range(2):  # in which the compiler works, and the optimizer begins its state
        step()
    return step


def installed_peers(x):
    """The peers that can be built and run here, as functions that build them; our KAN must equal each of them."""
    found, missing = {}, []
    for name, (build, *_) in PEERS.items():
        try:
            theirs = build(WIDTHS, GRID)
            expected = theirs(x)
        except (ImportError, RuntimeError):  # inkan and flashkan can't do without a compiler
            missing.append(name)
            continue
        difference = (as_ours(name, theirs, WIDTHS, GRID)(x) - expected).abs().max().item()
        if difference > 1e-3 * expected.abs().max():  # flashkan's sums cancel: 5e-5 in each basis, by its own word
            sys.exit(f"outputs of {name} differ by {difference}: the times can't be compared")
        found[name] = partial(build, WIDTHS, GRID)
    if missing:
        print(f"not measured, since they are not installed or do not run: {', '.join(missing)}")
    return found


def rows_and_notes(times):
    """From the seconds of each round, {(name, mode, dtype): [...]}: a row for each pair, and the headline."""
    def row(name, mode, dtype, their_mode, their_dtype):
        said = "" if (mode, dtype) == (their_mode, their_dtype) else f", {their_mode}, {their_dtype}"
        return measure.row(f"{mode}, {dtype}", "s", times["KAN", mode, dtype], name + said,
                           times[name, their_mode, their_dtype])

    modes = [mode for mode in MODES if ("KAN", *mode) in times]
    rows, best = [row("MLP", *mode, *mode) for mode in modes], modes[-1]
    found = [name for name in PEERS if (name, *MODES[0]) in times]
    for name in found:
        pairs = [(mode, MODES[0]) for mode in (MODES[0], (best[0], "float32"), best)]  # beside the peer as it comes
        for dtype in dict.fromkeys(dtype for _, dtype in modes):  # and at its fastest, in the same precision
            theirs = [key[1:] for key in times if key[0] == name and key[2] == dtype]
            pairs.append(((best[0], dtype), min(theirs, key=lambda mode: median(times[name, *mode]))))  # noqa: B023
        rows += [row(name, *ours, *theirs) for ours, theirs in dict.fromkeys(pairs)]

    def slower(key, mode):
        return f"{median(k / m for k, m in zip(times[key], times['MLP', *mode])):.2f}"

    ours = "; ".join(f"{slower(('KAN', *mode), mode)} ({mode[0]}, {mode[1]})" for mode in modes)
    theirs = "; ".join(f"{slower((name, *MODES[0]), MODES[0])} ({name})" for name in found)
    return rows, [
        f"Slower per step, as a multiple of an MLP's time in the same mode. Before, as they come: {theirs}. "
        f"After: {ours}.", "",
        f"A step is forward pass, loss, backward pass and AdamW: {WIDTHS}, grid {GRID}, order 3, batch {B}, "
        f"one thread and its processor time, beside an MLP {MLP_WIDTHS}; bfloat16 is autocast's.", ""]


def main():
    parser = flags.Parser("Measure a training step of our KAN beside an MLP's and other KANs'.")
    args = measure.arguments(parser, rounds=15)
    torch.set_num_threads(1)
    torch._dynamo.config.recompile_limit = 100  # one function for all sides; beyond the usual 8 it would stay plain
    torch.manual_seed(0)
    x, y = torch.rand(B, WIDTHS[0]) * 2 - 1, torch.randint(WIDTHS[-1], (B,))
    modes = [mode for mode in MODES if mode[1] in measure.dtypes()]
    try:
        flags.check_compiler("cpu")
    except flags.UserError:
        print("torch.compile finds no working C++ compiler here: only plain steps are measured")
        modes = [mode for mode in modes if mode[0] == "plain"]
    builders = {("KAN", *mode): partial(KAN, WIDTHS, GRID) for mode in modes}
    builders |= {("MLP", *mode): partial(MLP, MLP_WIDTHS) for mode in modes}
    for name, build in installed_peers(x).items():
        builders |= {(name, *mode): build for mode in modes if mode[0] == "plain" or name != "pykan"}  # as it is used
    steps = {}
    for key, build in builders.items():
        print("preparing", *key, flush=True)
        steps[key] = training_step(build(), x, y, *key[1:])
    times = {key: [] for key in steps}
    for _ in range(args.rounds):
        for key, step in steps.items():
            count = 1 if key[0] == "pykan" else STEPS
            began = CLOCK()
            for _ in range(count):
                step()
            times[key].append((CLOCK() - began) / count)
    rows, notes = rows_and_notes(times)
    results = {"machine": measure.machine("torch"), "rounds": args.rounds, "rows": rows, "notes": notes}
    measure.publish(results, HERE, args.print_only)


if __name__ == "__main__":
    flags.run(main)
