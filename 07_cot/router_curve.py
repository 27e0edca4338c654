"""What the router saves: accuracy against tokens as its threshold moves, and what the distillation is worth.

    python 07_cot/router_curve.py                       # a figure, and a row of the table for each seed
    python 07_cot/router_curve.py -l smollm2 --seeds 1337 --limit 30 -o router_smollm2.png    # of real weights
    python 07_cot/router_curve.py --distillation        # the Tiny Thought Model's two steps, each alone and together

Each seed has its own LoRA, Tiny Thought Model, router and test problems; the base is one. All difficulties count the
same. What was measured is kept as JSON lines.
"""

import math
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean

import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import checkpoint
import flags
import measure
from atomic import save_figure
from fine_tuning import load_model
from flags import shown
from reasoner import solved
from result_lines import measured_once
from router import ALWAYS, calibration_error, load_router
from router_training import all_ways, beliefs, budget_of, mean_of, open_pieces, outcome, sweep, weighed
from tasks import find
from thinking_base import ensure_base
from thought_distillation import LESSONS, ensure_tiny
from thought_plan import by_level, writing
from thoughts import ensure_thoughts, plan_of, thought_arguments

EDGES = (0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.01)  # of what is believed


def held_out(plan, split, count, seed):
    """Problems of each difficulty that no piece was made with: [[Problem]]."""
    return by_level(plan, split, count, seed + 900)


def measured(plan, seed, args):
    """The record of a seed's router: the whole curve, its ends, what it chose, and each difficulty apart."""
    began = time.process_time()
    paths = ensure_thoughts(plan, seed, args)
    spent = time.process_time() - began
    base, writer = open_pieces(plan, seed, args)
    router, threshold = load_router(paths["router"], base.device)
    levels = held_out(plan, args.split, args.limit, seed)
    questions = [each.question for level in levels for each in level]
    ways = weighed(all_ways(base, writer, router.probabilities, find(plan.data), questions, budget_of(plan)),
                   list(map(len, levels)))

    def chosen(each):
        return each.stop(threshold)

    rows, first = [], 0
    for difficulty, problems in enumerate(levels, find(plan.data).easiest):
        part, first = ways[first : first + len(problems)], first + len(problems)
        rows.append({"difficulty": difficulty, "problems": len(problems),
                     "thoughts": mean_of(part, lambda each: each.thoughts(chosen(each))),
                     "right": outcome(part, chosen)[0], "never": outcome(part, lambda each: 0)[0],
                     "always": outcome(part, lambda each: each.stop(ALWAYS))[0]})
    believed, right = zip(*beliefs(ways))
    return {"curve": sweep(ways), "never": outcome(ways, lambda each: 0),
            "always": outcome(ways, lambda each: each.stop(ALWAYS)),
            "oracle": outcome(ways, lambda each: each.oracle), "threshold": threshold,
            "router": outcome(ways, chosen), "calibration_error": calibration_error(believed, right),
            "bins": reliability(believed, right), "levels": rows,
            "read": [mean_of(ways, lambda each, stop=stop: read(each, stop(each)))
                     for stop in (lambda each: 0, chosen, lambda each: each.stop(ALWAYS))],
            "seconds": spent}


def read(way, count):
    """Tokens that base and writer read for a question with `count` thoughts, if each remembered what it has read."""
    asked = way.route.asked
    return asked + (asked if count else 0) + sum(way.route.tokens[:count])


def reliability(believed, right):
    """[(states, mean of what was believed, share right)] between each two edges."""
    found = []
    for low, high in zip(EDGES, EDGES[1:]):
        inside = [(p, r) for p, r in zip(believed, right) if low <= p < high]
        if inside:
            found.append((len(inside), mean(p for p, _ in inside), mean(r for _, r in inside)))
    return found


def distilled(plan, seed, args):
    """The record of a seed's students: parameters and accuracy of the teacher and of each lesson."""
    levels = held_out(plan, args.split, args.limit, seed)
    problems = [each for level in levels for each in level]
    weights = [1 / len(level) / len(levels) for level in levels for _ in level]
    paths = {"teacher": ensure_base(plan, args)}
    paths |= {lesson: ensure_tiny(plan, seed, args, lesson) for lesson in LESSONS}
    found = {}
    for name, path in paths.items():
        model, dtype, tokenizer = load_model(path, args)
        right = solved(model, tokenizer, plan.data, problems, dtype, writing(plan, tokenizer))
        history = checkpoint.load(path, "gpt", "adapters")["progress"]["history"]
        found[name] = {"parameters": model.parameter_count(), "loss": history[-1]["validation_loss"],
                       "right": sum(w * r for w, r in zip(weights, right))}
    return found


def records(args, plan, measure_seed, kind):
    """The records of all seeds; one that the file of results has not yet is measured now."""
    found = []
    for seed in args.seeds:
        numbers = {name: value for name, value in asdict(plan).items() if value != ""}
        what = {"kind": kind, "plan": numbers, "seed": seed, "split": args.split, "count": args.limit}
        found.append(measured_once(args.results, what, partial(measure_seed, plan, seed, args)))
    return found


def per(part, whole):
    """A share; of nothing there is none."""
    return part / whole if whole else math.nan


def table(found):
    """Lines of Markdown: what each seed came to, then each difficulty, as means of the seeds."""
    yield "| seed | at once | always | router | of always | of its tokens | oracle | read | calibration |"
    yield "|---" * 9 + "|"
    for row in found:
        (never, n), (always, a), (router, r), (oracle, o) = (row[x] for x in ("never", "always", "router", "oracle"))
        yield (f"| {row['what']['seed']} | {never:.1%}, {n:.1f} | {always:.1%}, {a:.1f} | {router:.1%}, {r:.1f} |"
               f" {per(router, always):.1%} | {per(r, a):.1%} | {oracle:.1%}, {o:.1f} |"
               f" {', '.join(f'{x:.0f}' for x in row['read'])} | {row['calibration_error']:.3f} |")
    yield ""
    yield "| difficulty | problems | thoughts taken | router | at once | always |"
    yield "|---" * 6 + "|"
    for rows in zip(*(row["levels"] for row in found)):
        shares = " | ".join(f"{mean(row[name] for row in rows):.1%}" for name in ("right", "never", "always"))
        yield (f"| {rows[0]['difficulty']} | {sum(row['problems'] for row in rows)} |"
               f" {mean(row['thoughts'] for row in rows):.2f} | {shares} |")
    yield ""
    yield "| believed | right | decisions |"
    yield "|---" * 3 + "|"
    for low, high in zip(EDGES, EDGES[1:]):
        inside = [(n, p, r) for row in found for n, p, r in row["bins"] if low <= p < high]
        if count := sum(n for n, _, _ in inside):
            believed, right = (sum(each[0] * each[i] for each in inside) / count for i in (1, 2))
            yield f"| {believed:.2f} | {right:.2f} | {count:,} |"


def draw_figure(found, path):
    """Right answers against tokens: a line for each seed, with its ends and the oracle."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for i, row in enumerate(found):
        _, right, tokens = zip(*row["curve"])
        first = i == 0
        axes.plot(tokens, right, color="C0", linewidth=1.2, alpha=0.8, label="router, its threshold moving" * first)
        for name, marker, color, label in (("never", "v", "C7", "never thinks"), ("always", "^", "C7", "always thinks"),
                                           ("oracle", "*", "C2", "stops as soon as the base is right"),
                                           ("router", "o", "C3", "the threshold that was chosen")):
            axes.plot(*row[name][::-1], marker, color=color, markersize=9 if marker == "*" else 6, label=label * first)
    axes.set(xlabel="tokens written for a question", ylabel="share of right answers", ylim=(None, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save_figure(figure, path)


def distillation_table(found):
    """Lines of Markdown: the teacher and its students."""
    seeds = " ".join(str(row["what"]["seed"]) for row in found)
    yield f"| | parameters | right, seeds {seeds} | of the teacher | validation loss |"
    yield "|---" * 5 + "|"
    for name in ("teacher", *LESSONS):
        rows = [row[name] for row in found]
        kept = per(mean(row["right"] for row in rows), mean(row["teacher"]["right"] for row in found))
        shares, losses = (" ".join(form.format(row[what]) for row in rows)
                          for what, form in (("right", "{:.1%}"), ("loss", "{:.4f}")))
        yield f"| {LESSONS.get(name, name)} | {rows[0]['parameters']:,} | {shares} | {kept:.1%} | {losses} |"


def main():
    parser = thought_arguments("Draw accuracy against tokens, as the router's threshold moves.", seed=False)
    group = parser.add_argument_group("what is measured")
    group.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339], help="of all but the base")
    group.add_argument("--limit", type=int, default=60, help="problems of each difficulty, or all that there are")
    group.add_argument("--split", choices=["test", "validation"], default="test", help="from which part")
    group.add_argument("--distillation", action="store_true", help="a table of teacher and students instead")
    group.add_argument("--results", metavar="PATH", default=str(flags.CHECKPOINTS / "07_thoughts_curve.jsonl"),
                       help="what was measured, a JSON line for each seed")
    group.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "07_router.png"), help="the figure")
    args = parser.parse()
    flags.check_ranges(args, limit=1)
    plan = plan_of(args)
    torch.set_num_threads(1)  # several would wait for each other, and that would count
    named = f"{shown(plan.load_model)}: " if plan.load_model else ""
    machine = f"one thread, {measure.machine('torch')}"
    if args.distillation:
        lines = distillation_table(records(args, plan, distilled, "distillation"))
    else:
        found = records(args, plan, measured, "router")
        draw_figure(found, args.output)
        lines = [*table(found), f"figure {shown(args.output)}"]
    print("\n".join(["", f"{named}{plan.data}, difficulties up to {plan.hardest}; {machine}", "", *lines]))


if __name__ == "__main__":
    flags.run(main)
