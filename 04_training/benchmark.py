"""Measure steps beside the original's and nanoGPT's, whole runs beside nanoGPT's, optimizers beside torch's.

    python 04_training/benchmark.py                  # 15 minutes; figures/benchmark.json, and the table in README.md
    python 04_training/benchmark.py --only ngrams    # this part anew, the others as they were
"""

import json
import math
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
import further_speed
import measure
import records
import trainer
from gpt import GPT, GPTConfig
from nanogpt_recipe import characters, nanogpt_model, nanogpt_optimizer, nanogpt_run, nanogpt_step
from ngram import Ngram
from optimizers import AdamW, Muon
from original_recipe import BATCH, BLOCK, OriginalModel, original_optimizer, original_step

HERE = Path(__file__).resolve().parent
VOCAB, SHAPE = 200_019, (384, 256, 6, 6)  # of GPT-4o's tokenizer; of the report's second command, and nanoGPT's on GPUs
STEPS = 3  # of which each round takes the mean
ROWS, WIDE_ROWS = 64, 16  # of a batch: what the command says, and what takes some seconds with a vocabulary of 65
RECORDS, SEEDS = ("sprint", "tinyshakespeare"), range(1337, 1342)


def seconds_of(step, *inputs):
    """A function that measures a step's seconds; one step is made before, in which an optimizer begins its state."""
    step(*inputs)
    return lambda: measure.seconds(lambda: [step(*inputs) for _ in range(STEPS)]) / STEPS


def our_step(model, optimizer, batch, dtype=torch.float32):
    """What trainer.train does in a step."""
    trainer.add_gradients(model, batch, len(batch[0]), dtype)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def our_seconds(model, *inputs):
    return seconds_of(our_step, model, trainer.make_optimizer(model, 3e-4), *inputs)


OURS = {"a tied head, which halves the table": {},
        "its head and blocks": {"tied_head": False, "attention": "original_scale", "feed_forward": "relu"}}


def step_once(side):
    """In a process of its own: seconds of a step with 4 x 8 tokens, of the original or of ours with these parts."""
    torch.manual_seed(0)
    batch = torch.randint(VOCAB, (2, BATCH, BLOCK))
    if side == "original":
        model = OriginalModel(VOCAB)
        seconds = seconds_of(original_step, model, original_optimizer(model), *batch)
    else:
        trainer.keep_freed_memory()
        seconds = our_seconds(GPT(GPTConfig(VOCAB, *SHAPE, dropout=0.2, **OURS[side])), batch)
    print(median(seconds() for _ in range(3)))


def original_rows(rounds):
    """The report's second command: a step of its code, 4 x 8 tokens whatever is typed, beside as many tokens here."""
    for kind in OURS:
        what = f"a step of {BATCH} x {BLOCK} tokens, vocabulary {VOCAB:,}, ours with {kind}"
        yield measure.row_in_turn(what, "s", partial(measure.in_process, "--step", kind), "the original",
                                  partial(measure.in_process, "--step", "original"), rounds)


def train_once(rows):
    """In a process of its own: the memory that two steps need at most; the second finds an optimizer's state there."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(VOCAB, *SHAPE, dropout=0.2))
    batch = trainer.random_batches(np.random.default_rng(0).integers(VOCAB, size=20_000), rows, SHAPE[1], seed=0)
    trainer.train(model, batch, trainer.make_optimizer(model, 3e-4), lambda step: 3e-4, 2, lambda: math.nan)
    print(measure.peak_memory())


def memory_rows(rounds):
    """The batch that the command asks for; once, because it takes minutes."""
    peak = measure.in_process("--memory", str(ROWS)) / 1e3
    what = f"peak memory, once, of steps of {ROWS} x {SHAPE[1]} tokens, vocabulary {VOCAB:,}, dropout 0.2"
    yield measure.row(what, "GB", [peak], "the original's logits alone, counted", [ROWS * SHAPE[1] * VOCAB * 4 / 1e9])


def wide_rows(rounds):
    """One and the same model: our step beside nanoGPT's."""
    batch = torch.randint(65, (2, WIDE_ROWS, SHAPE[1]))
    model = nanogpt_model(65, 0, *SHAPE)
    theirs = seconds_of(nanogpt_step, model, nanogpt_optimizer(model), *batch, 1e-3)
    auto = flags.choose_dtype("auto", batch.device, SHAPE[0])
    for name, dtype in measure.dtypes().items():
        ours = our_seconds(nanogpt_model(65, 0, *SHAPE), batch, dtype)
        what = f"6 layers, 384 wide, {WIDE_ROWS} x {SHAPE[1]} characters a step, {name}"
        yield measure.row_in_turn(what + ", which --dtype auto takes here" * (dtype == auto), "tokens/s", rate(ours),
                                  "nanoGPT's step, float32", rate(theirs), rounds)


def rate(seconds):
    return lambda: WIDE_ROWS * SHAPE[1] / seconds()


def record_rows(rounds):
    """Whole runs on tiny Shakespeare, in turn; a round is a seed here, and there are always five."""
    text = characters("tinyshakespeare")
    runs = {name: [] for name in ("nanoGPT", *RECORDS)}
    for seed in SEEDS:
        runs["nanoGPT"].append(nanogpt_once(*text, seed))
        for name in RECORDS:
            runs[name].append(records.run(name, seed))
    theirs, _, (size, *_) = zip(*runs["nanoGPT"])
    for name in RECORDS:
        ours, _, (our_size, *_) = zip(*runs[name])
        yield measure.row(f"tiny Shakespeare, recipe {name}, {our_size:,} parameters, {len(SEEDS)} seeds", "s", ours,
                          f"nanoGPT's 2,000 steps, {size:,} parameters", theirs)
    for name, each in runs.items():
        losses = ", ".join(f"{loss:.3f}" for _, loss, _ in each)
        yield f"{name}, validation losses of seeds {SEEDS[0]} to {SEEDS[-1]}: {losses}."


def nanogpt_once(train_tokens, val_tokens, vocab_size, seed):
    seconds, loss, model = nanogpt_run(train_tokens, val_tokens, seed, vocab_size=vocab_size)
    return seconds, loss, model.parameter_count()


def ngram_rows(rounds):
    """Counting alone: notes only, because no one else's is beside it."""
    text = characters("tinyshakespeare")
    for counts in ("plain", "Kneser-Ney"):
        seconds, losses = zip(*(ngram_once(*text, counts == "Kneser-Ney") for _ in range(rounds)))
        yield (f"5-grams of tiny Shakespeare's characters, {counts} counts: validation loss {losses[0]:.3f},"
               f" {median(seconds):.1f} s to count and to score.")


def ngram_once(train_tokens, val_tokens, vocab_size, kneser_ney):
    began = time.perf_counter()
    model = Ngram(train_tokens, 5, vocab_size, kneser_ney=kneser_ney)
    loss = -model.log_probabilities(val_tokens).mean()
    return time.perf_counter() - began, loss


def optimizer_rows(rounds):
    """Both sides move the same weights by the same gradients; queries, keys and values are matrices of their own."""
    torch.manual_seed(0)
    C, layers = SHAPE[0], SHAPE[3]
    shapes = [(C, C)] * 4 + [(4 * C, C), (C, 4 * C)]
    weights = [nn.Parameter(torch.randn(shape)) for shape in shapes * layers]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    theirs = seconds_of(torch.optim.Muon(weights).step)
    for name, dtype in measure.dtypes().items():
        ours = seconds_of(Muon(weights, lr=1e-3, dtype=dtype).step)
        yield measure.row_in_turn(f"Muon, {len(weights)} matrices of 6 layers, 384 wide, {name}", "s", ours,
                                  "torch.optim.Muon, which takes bfloat16", theirs, rounds)
    yield measure.row_in_turn("AdamW from its equations, the same matrices", "s", seconds_of(AdamW(weights).step),
                              "torch.optim.AdamW, fused",
                              seconds_of(torch.optim.AdamW(weights, fused=True).step), rounds)


PARTS = {"original": original_rows, "memory": memory_rows, "wide": wide_rows, "records": record_rows,
         "ngrams": ngram_rows, "optimizers": optimizer_rows, "further": further_speed.rows}


def part_of(found):
    """Which part a row or a note comes from."""
    return found.partition(": ")[0] if isinstance(found, str) else found["part"]


def measured(part, rounds):
    """The rows of a part, and its notes, which are paragraphs."""
    print(part, flush=True)
    for found in PARTS[part](rounds):
        yield f"{part}: {found}\n" if isinstance(found, str) else found | {"part": part}


def others(part, results):
    """What figures/benchmark.json has of the other parts. Raises UserError if it was measured otherwise."""
    file = HERE / "figures/benchmark.json"
    if not file.exists():
        return []
    known = json.loads(file.read_text(encoding="utf-8"))
    for name in ("machine", "rounds"):
        if known[name] != results[name]:
            raise flags.UserError(f"{name} is {results[name]} here, and {known[name]} in {flags.shown(file)}:"
                                  " measure as then, or leave out --only")
    return [found for found in known["rows"] + known["notes"] if part_of(found) != part]


def main():
    if sys.argv[1:2] == ["--memory"]:
        return train_once(int(sys.argv[2]))
    if sys.argv[1:2] == ["--step"]:
        return step_once(sys.argv[2])
    parser = flags.Parser("Measure training beside the original, nanoGPT and torch's optimizers.")
    parser.add_argument("--only", choices=PARTS, metavar="PART",
                        help=f"measure this part anew, and keep the others: {', '.join(PARTS)}")
    args = measure.arguments(parser, rounds=3)
    results = {"machine": measure.machine("torch", "numpy"), "rounds": args.rounds}
    found = others(args.only, results) if args.only else []
    for part in [args.only] if args.only else PARTS:
        found += measured(part, args.rounds)
    found.sort(key=lambda each: list(PARTS).index(part_of(each)))
    results["rows"] = [each for each in found if not isinstance(each, str)]
    results["notes"] = [each for each in found if isinstance(each, str)]
    measure.publish(results, HERE, args.print_only)


if __name__ == "__main__":
    flags.run(main)
