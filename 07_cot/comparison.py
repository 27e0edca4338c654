"""The paper's comparison, for any model that can be loaded: as it is, and with a prompt that makes it think first.

    python 07_cot/comparison.py                                   # SmolLM2; what was measured is kept, and gone on with
    python 07_cot/comparison.py smollm2 Qwen/Qwen3-0.6B --limit 100
    python 07_cot/comparison.py --limit 1 --likelihood_limit 1    # a look at all of it in a minute or two

On MMLU's college mathematics and college computer science a model as it is says which letter it finds likeliest, five
questions shown; on GSM8K it answers at once, as the problems that it is shown are answered. Then it thinks first: on
MMLU because it is asked to, on GSM8K because the problems shown come with their reasons. How much its explanations say
what GSM8K's own say, in the same words, is BLEU and ROUGE. Questions are fixed random subsets of the test splits.
"""

import json
import math
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from statistics import mean

import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
import measure
from atomic import replacing, save_figure
from engine import Request, load_engine
from flags import shown
from metrics import accuracy
from published_exams import SHORT, replies_of
from text_scores import corpus_bleu, rouge

EXAMS = {"mmlu:college_mathematics": "college mathematics", "mmlu:college_computer_science": "college computer science",
         "gsm8k": "GSM8K"}
BASE = {"mmlu:college_mathematics": "letters", "mmlu:college_computer_science": "letters", "gsm8k": "direct"}
THOUGHTS = {"mmlu:college_mathematics": "zero_shot", "mmlu:college_computer_science": "zero_shot", "gsm8k": "few_shot"}
ROWS = {"base": BASE, "+ chain of thought": THOUGHTS}
CHANCE = 0.25  # of four choices
PAPER = ("the paper's own claim, of Llama 3.1 8B: \"Achieved a 10% accuracy increase over the base model without CoT\";"
         " its scores are in images that are not here, so that none of them stands in the table")


def arguments():
    parser = flags.Parser("Compare models with themselves: without thoughts, and with a prompt that makes them think.")
    parser.add_argument("models", nargs="*", default=["smollm2"],
                        help="checkpoints, or folders, files or names of real weights")
    parser.add_argument("--limit", type=int, default=60, help="questions of an exam for which replies are written")
    parser.add_argument("--likelihood_limit", type=int, default=100, metavar="LIMIT",
                        help="questions of an exam for which likelihoods are computed")
    parser.add_argument("--shots", type=int, default=4, help="problems of GSM8K that are shown")
    parser.add_argument("-n", "--max_new_tokens", type=int, default=256, help="of a reply with thoughts")
    parser.add_argument("--results", type=Path, default=flags.CHECKPOINTS, metavar="FOLDER",
                        help="where replies are kept")
    parser.add_argument("-o", "--output", type=Path, metavar="PNG", help="the figure",
                        default=flags.CHECKPOINTS / "07_comparison.png")
    flags.machine_flags(parser, seed=False)
    return parser


def lines_of(engine, exam, prompting, args):
    """{number of a question: what was said, as published_exams keeps it} for one cell of the table."""
    limit = args.likelihood_limit if prompting == "letters" else args.limit
    shots = args.shots if exam == "gsm8k" else None
    request = Request(max_new_tokens=SHORT if prompting in ("letters", "direct") else args.max_new_tokens)
    settings = sha256(repr((request, shots, prompting)).encode()).hexdigest()[:6]
    path = args.results / f"07_exam_{engine.name}_{exam.replace(':', '_')}_{prompting}_{settings}.jsonl"
    asked, lines = replies_of(engine, exam, limit, request, 1, prompting, shots, path)
    texts = dict(asked)
    return {number: lines[0, number, 0] | {"rationale": texts[number].rationale} for number in texts}


def measured(lines):
    """What the table says of a cell."""
    share, low, high = accuracy([line["right"] for line in lines.values()])
    said = Counter(line["extracted"] for line in lines.values() if line["extracted"] is not None)
    favourite, times = max(said.items(), key=lambda pair: pair[1], default=("nothing", len(lines)))
    cell = {"share": share, "low": low, "high": high, "questions": len(lines),
            "answered": mean(line["extracted"] is not None for line in lines.values()),
            "tokens": mean(line["tokens"] for line in lines.values()),
            "seconds": sum(line["seconds"] for line in lines.values()),
            "favourite": favourite, "times": times}
    replies, reasons = zip(*((line["reply"], line["rationale"]) for line in lines.values()))
    if all(reasons):
        scores = [rouge(*pair) for pair in zip(replies, reasons)]
        cell |= {"bleu": corpus_bleu(replies, reasons), **{name: mean(each[name] for each in scores)
                                                           for name in scores[0]}}
    return cell


def difference(base, thoughts):
    """(by how much thoughts are better, the ends of its interval of 95 %, how many questions both were asked).

    Of pairs, each question right or wrong twice, with half a question more of each of the four kinds: Agresti and Min
    2005, "Simple improved confidence intervals for comparing matched proportions".
    """
    both = base.keys() & thoughts.keys()
    gained, lost = (sum(one[number]["right"] > other[number]["right"] for number in both)
                    for one, other in ((thoughts, base), (base, thoughts)))
    count, more, less = len(both) + 2, gained + 0.5, lost + 0.5
    # ((b - c) +- z sqrt(b + c - (b - c)^2 / n)) / n
    middle, width = (more - less) / count, 1.96 * math.sqrt(more + less - (more - less) ** 2 / count) / count
    return (gained - lost) / len(both), middle - width, middle + width, len(both)


def table(cells, differences):
    """The lines of the table, a group of three rows for each model."""
    yield f"| model | | {' | '.join(EXAMS.values())} | BLEU | ROUGE-1, -2, -L |"
    yield f"|---|---|{'---|' * (len(EXAMS) + 2)}"
    for model, rows in cells.items():
        for name, row in rows.items():
            shares = " | ".join(f"{c['share']:.1%} ({c['low']:.1%} to {c['high']:.1%}) of {c['questions']}"
                                for c in row.values())
            scores = row["gsm8k"]
            rouges = ", ".join(f"{scores[each]:.2f}" for each in ("rouge1", "rouge2", "rougeL"))
            yield f"| {model} | {name} | {shares} | {scores['bleu']:.1f} | {rouges} |"
        gains = " | ".join(f"{100 * middle:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}) of {count}"
                           for middle, low, high, count in differences[model].values())
        yield f"| {model} | difference, same questions | {gains} | | |"


def remarks(cells):
    """What stands behind the figures: how many replies have an answer, which most often, and what a guess is worth."""
    for model, rows in cells.items():
        for name, row in rows.items():
            for exam, cell in row.items():
                chance = ""
                if exam.startswith("mmlu"):
                    holds = cell["low"] <= CHANCE <= cell["high"]
                    chance = f"; {CHANCE:.0%}, a guess, is {'in' if holds else 'outside'} its interval"
                yield (f"{model}, {EXAMS[exam]}, {name} ({ROWS[name][exam]}): {cell['answered']:.0%} of replies have an"
                       f" answer, {cell['times']} of {cell['questions']} say {cell['favourite']}; {cell['tokens']:.0f}"
                       f" tokens each{chance}")


def draw(cells, path):
    """Bars of all shares with their intervals; a dashed line where guessing stands on MMLU."""
    bars = [(model, name) for model, rows in cells.items() for name in rows]
    figure = Figure(figsize=(2 + 2.4 * len(EXAMS), 3.8), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(bars)
    for i, (model, name) in enumerate(bars):
        row = [cells[model][name][exam] for exam in EXAMS]
        places = [at + (i - (len(bars) - 1) / 2) * width for at in range(len(EXAMS))]
        ends = [[cell["share"] - cell["low"] for cell in row], [cell["high"] - cell["share"] for cell in row]]
        axes.bar(places, [cell["share"] for cell in row], width * 0.92, yerr=ends, capsize=4, ecolor="#444444",
                 color=f"C{i}", label=f"{model}, {name}")
    axes.plot([-0.5, 1.5], [CHANCE, CHANCE], "--", color="#888888", label="a guess")
    axes.set(xticks=range(len(EXAMS)), xticklabels=EXAMS.values(), ylim=(0, None))
    axes.set_ylabel("right, with intervals of 95 %")
    axes.legend(loc="upper right", frameon=False)
    save_figure(figure, path)


def main():
    args = arguments().parse()
    flags.check_ranges(args, limit=1, likelihood_limit=1, shots=1, max_new_tokens=1)
    torch.set_num_threads(1)  # several would wait for each other, and that would count
    cells, differences = {}, {}
    for model in args.models:
        engine = load_engine(model, args)
        found = {name: {exam: lines_of(engine, exam, row[exam], args) for exam in EXAMS} for name, row in ROWS.items()}
        cells[engine.name] = {name: {exam: measured(lines) for exam, lines in row.items()}
                              for name, row in found.items()}
        differences[engine.name] = {exam: difference(*(row[exam] for row in found.values())) for exam in EXAMS}
    print(f"{measure.machine('torch')}, one thread, greedy\n")
    print(*table(cells, differences), "", *remarks(cells), PAPER, sep="\n")
    summary = {"machine": measure.machine("torch"), "cells": cells, "differences": differences}
    with replacing(args.results / "07_comparison.json") as beside:
        beside.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    draw(cells, args.output)
    print(f"\n{shown(args.results / '07_comparison.json')}, {shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
