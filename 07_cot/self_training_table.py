"""GRPO, its variants and STaR beside each other: from the same reasoner, each for about the same time.

    python 07_cot/self_training_table.py                        # all runs; those that are recorded are not repeated
    python 07_cot/self_training_table.py --seeds 1337 --methods grpo star
"""

import json
import sys
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
import grpo
import measure
import star
from atomic import replacing, save_figure
from flags import UserError, shown
from policy_loss import VARIANTS
from result_lines import read_lines

SEEDS = [1337, 1338, 1339]
ONE_SEED = ["dr_grpo", "dapo", "gspo", "reinforce++"]  # RLOO is Dr. GRPO but for a factor, to which AdamW is blind


def record_of(run, seed, args):
    """The record of a run, from the file of results, or measured now."""
    path, script = Path(args.results), star if run == "star" else grpo
    numbers = [float(number) for number in args.numbers or script.NUMBERS.values()]
    for record in read_lines(path):
        kind = record["what"] if record["what"] == "star" else record["variant"]
        if (kind, record["seed"], [record[name] for name in script.NUMBERS]) == (run, seed, numbers):
            return record
    saved = path.with_name("_".join([path.stem, run, *(f"{number:g}" for number in numbers), f"{seed}.pt"]))
    words = ["-l", saved, "-s", saved, "--results", path, "--seed", seed]  # goes on where it was stopped
    words += [] if run == "star" else ["--variant", run]
    words += [*args.numbers] if args.numbers else []
    print(f"{run}, seed {seed}")
    if script.train_command(script.arguments().parse(list(map(str, words)))) is None:
        sys.exit(130)
    return record_of(run, seed, args)


def table(found):
    """Lines of Markdown: a row for each kind of run, a number for each seed."""
    yield "| | greedy before | after, each seed | gain | perplexity after | seconds of one core | groups with signal |"
    yield "|---|---|---|---|---|---|---|"
    for run, records in found.items():
        after = ", ".join(f"{record['after']:.1%}" for record in records)
        gain = mean(record["after"] - record["before"] for record in records)
        perplexity = ", ".join(f"{record['perplexity_after']:.4f}" for record in records)
        seconds = ", ".join(f"{record['cpu_seconds']:.0f}" for record in records)
        signal = ("" if run == "star" else
                  f"{sum(r['with_signal'] for r in records) / sum(r['groups'] for r in records):.0%}")
        stopped = "".join(f"; seed {r['seed']} stopped: {r['ended_early']}" for r in records if r["ended_early"])
        yield (f"| {run}{stopped} | {records[0]['before']:.1%} | {after} | {100 * gain:+.1f} points | {perplexity} |"
               f" {seconds} | {signal} |")
    yield ""
    yield "Perplexity before: {:.4f}.".format(next(iter(found.values()))[0]["perplexity_before"])


def draw_figure(found, path):
    """The share of validation problems solved against seconds: a line for each run."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (run, records) in enumerate(found.items()):
        for i, record in enumerate(records):
            points = [(point["cpu_seconds"], point["right"]) for point in record["points"]]
            axes.plot(*zip(*points), color=f"C{number}", linestyle="--" if run == "star" else "-",
                      linewidth=1.8 if run in ("grpo", "star") else 0.9, marker="o", markersize=2.5,
                      label=None if i else run)
    axes.set(xlabel="seconds of training, on one core", ylabel="validation problems solved, greedy")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


def arguments():
    parser = flags.Parser("Compare ways to learn from one's own chains.")
    parser.add_argument("--methods", nargs="+", choices=[*VARIANTS, "star"], default=["grpo", "star", *ONE_SEED],
                        help="grpo and star with each seed, the others with the first")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of drawing and training")
    parser.add_argument("--numbers", nargs=3, metavar=("BATCH_SIZE", "LEARNING_RATE", "STEPS"),
                        help="of all runs (default: those of each script)")
    parser.add_argument("--results", metavar="PATH", default=str(flags.CHECKPOINTS / "07_cot_self_training.jsonl"),
                        help="what was measured, a JSON line for each run; checkpoints beside it")
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "07_grpo.png"),
                        help="the figure; a .json goes beside it")
    return parser


def main():
    args = arguments().parse()
    if len(set(args.seeds)) < len(args.seeds):
        raise UserError("--seeds has the same one twice: name each once")
    found = {}
    for run in args.methods:
        for seed in args.seeds if run in ("grpo", "star") else args.seeds[:1]:
            found.setdefault(run, []).append(record_of(run, seed, args))
    results = {"machine": measure.machine("torch"), "records": sum(found.values(), [])}
    with replacing(Path(args.output).with_suffix(".json")) as beside:
        beside.write_text(json.dumps(results, indent=1), encoding="utf-8")
    draw_figure(found, args.output)
    print("\n".join(["", *table(found), "", f"figure {shown(args.output)}"]))


if __name__ == "__main__":
    flags.run(main)
