"""How much more samples help: ways to choose one answer of many, against their number and against time.

    python 07_cot/vote_curve.py
    python 07_cot/vote_curve.py --split validation -d countdown --seeds 7 -o try.png       # for choosing settings

For each seed a reasoner is trained and stopped early, then two verifiers on its chains, and all ways choose among the
same chains for problems of the test split. What is done is kept as JSON lines: a run that was stopped goes on.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
import measure
from atomic import replacing, save_figure
from chains import think
from early_reasoner import EARLY, ensure_early
from flags import UserError, shown
from reasoner import load_reasoner
from result_lines import measured_once
from tasks import draw, find
from verifier import CHOICES, KINDS, NUMBERS, drawn_chains, ensure_verifiers, load_verifier, scores
from voting import WAYS, passed, per_token

TIMED = 32  # questions of which the time is taken, all in one batch
SAMPLING_SEED = 1_000_003  # added to a seed, so that no chain is drawn with the numbers of those of training
LINES = {"majority": ("C0", "-"),
         "vote by probability": ("C1", "-"), "vote by probability per token": ("C1", ":"),
         "vote by outcome model": ("C2", "-"), "vote by process model": ("C3", "-"),
         "best by probability": ("C1", "--"),
         "best by outcome model": ("C2", "--"), "best by process model": ("C3", "--"),
         "pass@N": ("black", "-")}


def counts(samples):
    """1, 2, 4, ... up to a number of samples."""
    return [2**i for i in range(samples.bit_length())]


def accuracies(family, questions, drawn, known, samples):
    """{way: [share of right answers for each of `counts`]} of chains: `drawn` and `known` have a row for each question.

    With N of all samples each N in turn have a vote of their own, and the mean of these is taken.
    """
    found = {way: [] for way in [*WAYS, "pass@N"]}
    for N in counts(samples):
        right = {way: [] for way in found}
        for question, answers, row in zip(questions, drawn, known):
            good = {answer: family.right(question, answer) for answer in set(answers) - {None}} | {None: False}
            for first in range(0, samples, N):
                part = slice(first, first + N)
                about = {name: values[part] for name, values in row.items()}
                for way, choose in WAYS.items():
                    right[way].append(good[choose(answers[part], about)])
                right["pass@N"].append(passed(answers[part], good.get))
        for way, all_of_them in right.items():
            found[way].append(mean(all_of_them))
    return found


def timed(function):
    """(what it returns, the processor's seconds): what else runs at the time does not count."""
    began = time.process_time()
    found = function()
    return found, time.process_time() - began


def measured(data, seed, args):
    """The record of a seed: accuracies, and seconds for a question, of drawing and of reading by a verifier."""
    *reasoner, run = load_reasoner(ensure_early(data, seed), args)
    model, _, tokenizer = reasoner
    verifiers = {kind: load_verifier(path, args)[0] for kind, path in zip(KINDS, ensure_verifiers(data, KINDS, seed))}
    family = find(data)
    problems = draw(data, args.split, args.limit, seed, run["difficulty"])
    if len(problems) < args.limit:
        raise UserError(f"{data} has only {len(problems)} problems for {args.split}: give a lower --limit")
    questions = [each.question for each in problems]

    def drawn(problems, samples):
        return drawn_chains(reasoner, problems, samples, args.temperature, seed + SAMPLING_SEED)

    def read(kind, questions, chains):
        return scores(verifiers[kind], tokenizer, questions, [[chain.text for chain in row] for row in chains])

    few = questions[:TIMED]
    seconds: dict = {"sampling": [], **{kind: [] for kind in KINDS}}
    greedy, seconds["greedy"] = timed(lambda: think(model, tokenizer, few))
    for N in counts(args.samples):
        chains, spent = timed(lambda N=N: drawn(problems[:TIMED], N))
        seconds["sampling"].append(spent / len(few))
        for kind in KINDS:
            seconds[kind].append(timed(lambda kind=kind, chains=chains: read(kind, few, chains))[1] / len(few))
    seconds["greedy"] /= len(few)

    greedy += think(model, tokenizer, questions[TIMED:])
    chains = drawn(problems, args.samples)
    by_kind = {kind: read(kind, questions, chains) for kind in KINDS}
    known = []
    for i, row in enumerate(chains):
        sums = [chain.log_probability for chain in row]
        known.append({"log_probability": sums, "per_token": per_token(sums, [len(chain.ids) for chain in row]),
                      **{kind: by_kind[kind][i] for kind in KINDS}})
    answers = [[chain.answer for chain in row] for row in chains]
    return {"greedy": mean(family.right(q, chain.answer or "") for q, (chain,) in zip(questions, greedy)),
            "accuracy": accuracies(family, questions, answers, known, args.samples), "seconds": seconds}


def settings_of(data, seed, args):
    """All that a record depends on."""
    return {"data": data, "seed": seed, "split": args.split, "problems": args.limit, "samples": args.samples,
            "temperature": args.temperature, "reasoner": EARLY[data], "verifier": {**NUMBERS, **CHOICES}}


def records(args):
    """The records of all families and seeds, each measured now if the file of results has it not yet."""
    found = {}
    for data in args.data:
        for seed in args.seeds:
            record = measured_once(args.results, settings_of(data, seed, args), partial(measured, data, seed, args))
            print(f"{data}, seed {seed}: greedy {record['greedy']:.3f}, with {args.samples} samples "
                  + ", ".join(f"{way} {shares[-1]:.3f}" for way, shares in record["accuracy"].items()))
            found.setdefault(data, []).append(record)
    return found


def table(found, samples):
    """Lines of Markdown: for each family and way the mean share for each N, and each seed's at the end."""
    for data, rows in found.items():
        yield f"| {data} | {' | '.join(f'N = {N}' for N in counts(samples))} | seeds at N = {min(16, samples)} |"
        yield "|---" * (len(counts(samples)) + 2) + "|"
        at = counts(samples).index(min(16, samples))
        greedy = [row["greedy"] for row in rows]
        yield f"| greedy | {mean(greedy):.3f} |{' |' * (len(counts(samples)) - 1)} {spoken(greedy)} |"
        for way in rows[0]["accuracy"]:
            shares = [row["accuracy"][way] for row in rows]
            means = " | ".join(f"{mean(column):.3f}" for column in zip(*shares))
            yield f"| {way} | {means} | {spoken([each[at] for each in shares])} |"
        yield ""


def spoken(shares):
    return ", ".join(f"{share:.3f}" for share in shares)


def cost(way, row):
    """Seconds for a question for each N: of drawing, and of the verifier that a way asks."""
    kind = next((kind for kind in KINDS if kind in way), None)
    sampling = row["seconds"]["sampling"]
    return [a + b for a, b in zip(sampling, row["seconds"][kind])] if kind else sampling


def draw_figure(found, samples, path):
    """A row for each family: right answers against samples, and against seconds; a thin line for each seed."""
    figure = Figure(figsize=(13, 4.2 * len(found)), layout="constrained")
    for (data, rows), (left, right) in zip(found.items(), figure.subplots(len(found), 2, squeeze=False, sharey="row")):
        for way, (color, style) in LINES.items():
            shares, costs = [row["accuracy"][way] for row in rows], [cost(way, row) for row in rows]
            for axes, xs in ((left, [counts(samples)] * len(rows)), (right, costs)):
                for x, share in zip(xs, shares):
                    axes.plot(x, share, color=color, linestyle=style, linewidth=0.6, alpha=0.35)
                axes.plot([mean(each) for each in zip(*xs)], [mean(each) for each in zip(*shares)], color=color,
                          linestyle=style, marker="o", markersize=3, label=way)
        greedy = mean(row["greedy"] for row in rows)
        left.axhline(greedy, color="gray", linewidth=1, label="greedy")
        right.plot(mean(row["seconds"]["greedy"] for row in rows), greedy, "s", color="gray", label="greedy")
        for axes, what in ((left, "samples N"), (right, "seconds for a question, on one core")):
            axes.set(xscale="log", xlabel=what, title=data)
            axes.grid(alpha=0.3)
        left.set(ylabel="share of right answers", xticks=counts(samples), xticklabels=counts(samples))
        left.minorticks_off()
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize="small")
    save_figure(figure, path)


def arguments():
    parser = flags.Parser("Compare ways to choose an answer among samples.")
    parser.add_argument("-d", "--data", nargs="+", choices=EARLY, default=["arithmetic"], help="families")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339], help="of all training and drawing")
    parser.add_argument("--limit", type=int, default=400, help="problems for each seed")
    parser.add_argument("--samples", type=int, default=32, help="of each problem: a power of 2")
    parser.add_argument("--temperature", type=float, default=CHOICES["temperature"], help="at which they are drawn")
    parser.add_argument("--split", choices=["test", "validation"], default="test", help="from which part")
    parser.add_argument("--results", metavar="PATH", default=str(flags.CHECKPOINTS / "07_cot_votes.jsonl"),
                        help="what was measured, a JSON line for each family and seed")
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "07_voting.png"),
                        help="the figure; a .json goes beside it")
    flags.machine_flags(parser, seed=False)
    return parser


def main():
    args = arguments().parse()
    flags.check_ranges(args, limit=1, samples=1)
    if args.samples & (args.samples - 1):
        raise UserError(f"samples {args.samples} must be a power of 2")
    if args.temperature <= 0:
        raise UserError(f"temperature {args.temperature} must be more than 0: else all samples are one")
    found = records(args)
    results = {"machine": measure.machine("torch"), "counts": counts(args.samples), "records": sum(found.values(), [])}
    with replacing(Path(args.output).with_suffix(".json")) as beside:
        beside.write_text(json.dumps(results, indent=1), encoding="utf-8")
    draw_figure(found, args.samples, args.output)
    print("\n".join(["", *table(found, args.samples), f"figure {shown(args.output)}"]))


if __name__ == "__main__":
    flags.run(main)
