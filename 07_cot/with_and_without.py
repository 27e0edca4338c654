"""What is thinking worth? The same problems with a chain and without, several families and seeds, on test problems.

    python 07_cot/with_and_without.py                   # an hour on one core; what was measured is kept
    python 07_cot/with_and_without.py -d arithmetic --seeds 1337

Both models have the same size and see as many tokens; training ends after the same number of steps.
"""

import sys
import time
from collections import Counter
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
import measure
from metrics import accuracy
from problem_batches import STYLES
from reasoner import load_reasoner, solved, train_command, training_arguments
from result_lines import measured_once
from tasks import FAMILIES, draw, find

DATA = ["arithmetic", "addition", "knights"]
SEEDS = [1337, 1338, 1339]
CELLS = flags.CHECKPOINTS / "07_with_and_without.jsonl"


def arguments():
    parser = flags.Parser("Train with a chain of thought and without, on several families with several seeds.")
    parser.add_argument("-d", "--data", nargs="+", default=DATA, metavar="FAMILY", help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="N", help="of training, one model each")
    parser.add_argument("--limit", type=int, default=500, help="test problems, of the family's own difficulty")
    parser.add_argument("--steps", type=int, help="of training (default: train.py's)")
    parser.add_argument("--second_head", type=float, default=0.3, help="train.py's, for both: see ablation.py")
    flags.machine_flags(parser, seed=False)
    return parser


def chance(data, problems):
    """The share of problems that are answered by the answer which is the most common one in training."""
    common = Counter(problem.answer for problem in draw(data, "train", 5000, seed=1)).most_common(1)[0][0]
    return mean(find(data).right(problem.question, common) for problem in problems)


def measured(data, style, seed, args):
    """[share of test problems solved, seconds of one processor that training took]; what was measured is kept.

    Seconds of a processor, not of the clock: what else runs at the time does not count.
    """
    def trained():
        path = flags.CHECKPOINTS / f"07_compared_{data}_{style}_{seed}.pt"
        words = ["-d", data, "--seed", seed, "-s", path, "--device", args.device, "--dtype", args.dtype,
                 "--second_head", args.second_head]
        of_training, began = training_arguments("").parse(list(map(str, words))), time.process_time()
        of_training.steps = args.steps or of_training.steps
        if train_command(of_training, style) is None:
            sys.exit(130)
        seconds = time.process_time() - began
        model, dtype, tokenizer, _ = load_reasoner(path, of_training)
        right = solved(model, tokenizer, data, draw(data, "test", args.limit, seed=1), dtype)
        return {"accuracy": accuracy(right), "seconds": seconds}

    what = {"data": data, "difficulty": find(data).difficulty, "style": style, "seed": seed, "steps": args.steps,
            "second_head": args.second_head, "limit": args.limit}
    found = measured_once(CELLS, what, trained)
    (share, low, high), seconds = found["accuracy"], found["seconds"]
    print(f"{data}, {style}, seed {seed}: {share:.1%} of {args.limit} test problems ({low:.1%} to {high:.1%}),"
          f" {seconds:.0f} s of a processor", flush=True)
    return share, seconds


def main():
    args = arguments().parse()
    for data in args.data:
        find(data)
    flags.check_ranges(args, limit=1, steps=1)
    torch.set_num_threads(1)  # several would wait for each other, and that would count
    lines = []
    for data in args.data:
        cells = {style: [measured(data, style, seed, args) for seed in args.seeds] for style in STYLES}
        shares = (" ".join(f"{share:.1%}" for share, _ in cells[style]) for style in ("direct", "chain"))
        seconds = (f"{mean(seconds for _, seconds in cells[style]):.0f}" for style in ("direct", "chain"))
        by_chance = chance(data, draw(data, "test", args.limit, seed=1))
        lines.append(f"| {data} | {by_chance:.1%} | {' | '.join(shares)} | {', '.join(seconds)} |")
    seeds = " ".join(map(str, args.seeds))
    print(f"\n{args.limit} test problems, seeds {seeds}; one thread, {measure.machine('torch')}\n")
    print("| family | chance | at once, each seed | with a chain | seconds of training |\n|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    flags.run(main)
