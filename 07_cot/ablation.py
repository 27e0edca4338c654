"""What do the auxiliary objectives bring? The same short training with each of them, several seeds, on test problems.

    python 07_cot/ablation.py                    # ten minutes on one core
    python 07_cot/ablation.py -d knights --steps 300 --compare "" "--window 0"      # of any flags of train.py
"""

import sys
import tempfile
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from chains import think
from family import WAIT
from metrics import chain_metrics
from reasoner import load_reasoner, train_command, training_arguments
from tasks import FAMILIES, draw, find

COMPARED = ["", "--result_weight 3", "--answer_weight 3", "--second_head 0.3", "--slips 0.1"]


def arguments():
    parser = flags.Parser("Train for a short time with each auxiliary objective, and compare.")
    parser.add_argument("-d", "--data", default="arithmetic", metavar="FAMILY", help=f"one of {', '.join(FAMILIES)}")
    parser.add_argument("--steps", type=int, default=200, help="of training: too few to solve all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1337, 1338, 1339], metavar="N", help="of training")
    parser.add_argument("--limit", type=int, default=500, help="test problems")
    parser.add_argument("--compare", nargs="+", default=COMPARED, metavar="FLAGS",
                        help="a row for each: a text of train.py's flags, '' for none")
    flags.machine_flags(parser, seed=False)
    return parser


def trained_chains(words, args, problems, path):
    """Train as the words say; returns (chain_metrics of the likeliest chains, how many of them say "wait")."""
    of_training = training_arguments("").parse(["-d", args.data, "--seed", str(args.seed), "-s", str(path),
                                                "--device", args.device, "--dtype", args.dtype, *words])
    of_training.steps = args.steps
    if train_command(of_training, "chain") is None:
        sys.exit(130)
    model, _, tokenizer, _ = load_reasoner(path, args)
    chains = [each for each, in think(model, tokenizer, [problem.question for problem in problems])]
    family = find(args.data)
    found = chain_metrics([(family, problem.question, chain.text) for problem, chain in zip(problems, chains)])
    return found, sum(WAIT in chain.steps for chain in chains)


def main():
    args = arguments().parse()
    flags.check_ranges(args, steps=1, limit=1)
    problems, lines = draw(args.data, "test", args.limit, seed=1), []
    with tempfile.TemporaryDirectory() as folder:
        for words in args.compare:
            rows = []
            for seed in args.seeds:
                args.seed = seed
                path = Path(folder) / f"{len(lines)}_{seed}.pt"
                rows.append(trained_chains(words.split(), args, problems, path))
            right = " ".join(f"{row['accuracy']:.1%}" for row, _ in rows)
            means = (f"{mean(row[key] or 0 for row, _ in rows):.1%}" for key in ("step_validity", "consistency",
                                                                                 "retention"))
            waits = sum(waits for _, waits in rows)
            lines.append(f"| {f'`{words}`' if words else 'plain'} | {right} | {' | '.join(means)} | {waits} |")
    print(f"\n{args.data}, {args.steps} steps, {args.limit} test problems, seeds {' '.join(map(str, args.seeds))}\n")
    print("| flags | solved, each seed | valid steps | consistent answers | operands used | chains with a wait |")
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    flags.run(main)
