"""What each part that came after GPT-2 buys: the same model with one more of them at a time, on the same batches.

    python 03_gpt/variants.py
    python 03_gpt/variants.py --only swiglu --only experts --seeds 1337 1338 1339

All have about the same number of parameters at work for each token; losses are drawn against steps and against time.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
import flags
import trainer
from atomic import save_figure
from evaluation import evaluate
from gpt import FAMILIES, GPT, GPTConfig
from prepare import open_data

NUMBERS = {"embedding_size": 128, "batch_size": 8, "block_size": 128, "learning_rate": 2e-3, "steps": 600,
           "head_count": 4, "layer_count": 4}
MODERN = FAMILIES["llama"]
VARIANTS = {
    "GPT-2's block": {},
    "the original's scale, ReLU": {"attention": "original_scale", "feed_forward": "relu"},
    "dropout 0.2": {"dropout": 0.2},
    "+ RoPE": {"positions": "rotary"},
    "+ RMSNorm, SwiGLU, no biases": MODERN,
    "+ QK-norm, 2 key/value heads": {
        **MODERN, "attention": "grouped_query", "key_value_head_count": 2, "qk_norm": True},
    "+ 8 experts, 2 for each token": {**MODERN, "expert_count": 8},
    "+ latent attention": {**MODERN, "attention": "latent", "rotary_size": 16},
}


def active_parameters(model):
    """Those that one token meets: of the experts, only the chosen ones."""
    count = model.parameter_count()
    for block in model.blocks if model.config.expert_count else ():
        idle = len(block.feed_forward.experts) - model.config.experts_per_token
        count -= idle * sum(parameter.numel() for parameter in block.feed_forward.experts[0].parameters())
    return count


def short_run(model, train_tokens, args, seed, validate):
    """Train without saving; rows (steps done, seconds of training, what `validate()` said), ten of them or so."""
    batch = trainer.random_batches(train_tokens, args.batch_size, args.block_size, seed)
    optimizer = trainer.make_optimizer(model, args.learning_rate)
    schedule = trainer.warmup_cosine(args.learning_rate, args.steps)
    spent, rows = 0.0, []
    for step in range(args.steps + 1):
        if step % max(1, args.steps // 10) == 0 or step == args.steps:
            rows.append((step, spent, validate()))
        if step == args.steps:
            break
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        optimizer.zero_grad()
        _, loss = model(*batch(step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        spent += time.perf_counter() - began
    return rows


def main():
    parser = flags.Parser("Train the same model with one part more of its successors at a time, and compare.")
    flags.text_flags(parser)
    flags.number_flags(parser, NUMBERS)
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "03_variants.png"), help="where to draw")
    parser.add_argument("--only", metavar="NAME_PART", action="append", default=[],
                        help="train only the variants that have this in their name; may be given several times")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1337], metavar="N", help="one run of each with each")
    args = parser.parse()
    parts = [part.lower() for part in args.only or [""]]
    runs = {name: [] for name in VARIANTS if any(part in name.lower() for part in parts)}
    if not runs:
        raise flags.UserError(f"no variant has {' or '.join(args.only)} in its name: {'; '.join(VARIANTS)}")
    flags.check_numbers(args)
    tokenizer, train_tokens, val_tokens = open_data(args)

    for seed in args.seeds:
        for name in runs:  # in turn, so that what else the machine does slows all of them
            torch.manual_seed(seed)
            model = GPT(GPTConfig(tokenizer.vocab_size, args.embedding_size, args.block_size, args.head_count,
                                  args.layer_count, **VARIANTS[name]))
            rows = short_run(model, train_tokens, args, seed,
                             lambda: evaluate(model, val_tokens, 16, args.block_size))  # noqa: B023
            runs[name].append(rows)
            print(f"{name}: {active_parameters(model):,} parameters for each token, {model.parameter_count():,} in all,"
                  f" {rows[-1][1]:.0f} s, validation loss {rows[-1][2]:.3f}", flush=True)
            for layer, block in enumerate(model.blocks if model.config.expert_count else []):
                loads = " ".join(f"{load:.0%}" for load in block.feed_forward.load)
                print(f"    layer {layer + 1}: of the last tokens, the experts got {loads}")

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, of_seeds in runs.items():
        steps, seconds, losses = np.mean(of_seeds, axis=0).T
        if len(args.seeds) > 1:
            each = " ".join(f"{rows[-1][2]:.3f}" for rows in of_seeds)
            print(f"{name}, {len(args.seeds)} seeds: {seconds[-1]:.0f} s, validation losses {each},"
                  f" mean {losses[-1]:.3f}")
        left.plot(steps[1:], losses[1:], label=name)
        right.plot(seconds[1:], losses[1:])
    left.set(xlabel="steps", ylabel="validation loss (nats per token)")
    right.set(xlabel="seconds of training")
    left.legend(frameon=False, fontsize="small")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save_figure(figure, args.output)
    print(f"figure {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
