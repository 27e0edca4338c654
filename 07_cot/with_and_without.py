"""What is thinking worth? The same problems with a chain and without, several families and seeds, on test problems.

    python 07_cot/with_and_without.py                   # an hour on one core; what is trained stays trained
    python 07_cot/with_and_without.py -d arithmetic --seeds 1337

Both models have the same size and see as many tokens; training ends after the same number of steps.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import checkpoint
import flags
import measure
from atomic import replacing
from flags import UserError
from metrics import accuracy
from problem_batches import STYLES
from reasoner import load_reasoner, solved, train_command, training_arguments
from tasks import FAMILIES, draw, find

DATA = ["arithmetic", "addition", "knights"]
SEEDS = [1337, 1338, 1339]
RESULTS = Path(__file__).resolve().parent / "figures/with_and_without.json"


def arguments():
    parser = flags.Parser("Train with a chain of thought and without, on several families with several seeds.")
    parser.add_argument("-d", "--data", nargs="+", default=DATA, metavar="FAMILY", help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="N", help="of training, one model each")
    parser.add_argument("--limit", type=int, default=500, help="test problems, of the family's own difficulty")
    parser.add_argument("--steps", type=int, help="of training (default: train.py's)")
    flags.machine_flags(parser)
    return parser


def trained(data, style, seed, args):
    """The path of a trained model; None after Ctrl-C. One that is unfinished is gone on with."""
    path = flags.CHECKPOINTS / f"07_compared_{data}_{style}_{seed}.pt"
    if not (path.exists() and checkpoint.load(path, "gpt")["progress"]["finished"]):
        words = ["-d", data, "--seed", str(seed), "-s", str(path), "-l", str(path), "--dtype", args.dtype]
        of_training = training_arguments("").parse(words)
        of_training.steps = args.steps or of_training.steps
        if train_command(of_training, style) is None:
            return None
    return path


def chance(data, problems):
    """The share of problems that are answered by the answer which is the most common one in training."""
    common = Counter(problem.answer for problem in draw(data, "train", 5000, seed=1)).most_common(1)[0][0]
    return mean(find(data).right(problem.question, common) for problem in problems)


def measured(data, style, args):
    """{"right": a share for each seed, "seconds": of training}; None after Ctrl-C."""
    problems, row = draw(data, "test", args.limit, seed=1), {"right": [], "seconds": []}
    for seed in args.seeds:
        path = trained(data, style, seed, args)
        if path is None:
            return None
        args.seed = seed
        model, dtype, tokenizer, _ = load_reasoner(path, args)
        share, low, high = accuracy(solved(model, tokenizer, data, problems, dtype))
        row["right"].append(share)
        row["seconds"].append(checkpoint.load(path, "gpt")["progress"]["seconds"])
        print(f"{data}, {style}, seed {seed}: {share:.1%} of {len(problems)} test problems ({low:.1%} to {high:.1%}),"
              f" {row['seconds'][-1]:.0f} s of training", flush=True)
    return row


def main():
    args = arguments().parse()
    for data in args.data:
        find(data)
    if args.limit < 1 or not args.seeds:
        raise UserError("give at least one test problem and one seed")
    results = {"machine": measure.machine("torch"), "threads": torch.get_num_threads(), "seeds": args.seeds,
               "problems": args.limit, "families": {}}
    for data in args.data:
        rows = {"chance": chance(data, draw(data, "test", args.limit, seed=1))}
        for style in STYLES:
            rows[style] = measured(data, style, args)
            if rows[style] is None:
                sys.exit(130)
        results["families"][data] = rows
    if (args.data, args.seeds, args.steps) == (DATA, SEEDS, None):
        with replacing(RESULTS) as beside:
            beside.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print("\n| family | chance | at once | with a chain | seconds each |\n|---|---|---|---|---|")
    for data, rows in results["families"].items():
        direct, chain = (" ".join(f"{share:.1%}" for share in rows[style]["right"]) for style in ("direct", "chain"))
        print(f"| {data} | {rows['chance']:.1%} | {direct} | {chain} | {mean(rows['direct']['seconds']):.0f},"
              f" {mean(rows['chain']['seconds']):.0f} |")


if __name__ == "__main__":
    flags.run(main)
