"""The report's question, answered: KANs and MLPs of equal parameters, three optimizers, fourteen functions, five seeds.

    python 06_kan/answer.py                       # what is not there yet, of all: about 40 minutes from nothing
    python 06_kan/answer.py -d exp_sin four       # of some functions
    python 06_kan/answer.py --results 06_kan/figures     # what this course measured, as it is kept there
    python 06_kan/answer.py --tune                # the choices made below, from seeds and points of their own

Every fit has the same time of the processor. Fits are kept in a folder's answer.json; Ctrl-C loses one, and the same
command goes on.
"""

import json
import math
import sys
import time
from pathlib import Path
from statistics import geometric_mean, median

import numpy as np
import torch
from functions import SHAPES, TARGETS, find, sample

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from approximate import FAILED, equal_mlp
from atomic import replacing, save_figure
from flags import UserError, shown
from least_squares import rmse
from matplotlib.figure import Figure
from measure import machine
from watched_fits import Recipe, Watch, fit_start, restored

POINTS = 1000  # to learn from, and as many for the test
PARAMETERS = {"four": 320, "hundred": 909}  # of each network, as near as can be; 210 of the others
LONGER = {"hundred": 3}  # times the others' seconds
SIZES, SIZED, SIZED_SEEDS = (50, 100, 420), ("exp_sin", "III.10.19"), 3  # of the first figure, with lm
TRACED = ("exp_sin", "III.10.19")  # of the second figure
OPTIMIZERS = ("adamw", "lbfgs", "lm")
NETWORKS = ("KAN, told", "KAN, blind", "MLP, 1 hidden", "MLP, 2 hidden", "MLP, 3 hidden")
COLUMNS = ("function", "network", "optimizer", "seed", "size", "budget", "widths", "parameters", "train", "test",
           "steps", "gradients", "seconds", "trace")
KEY = COLUMNS[:6]
# the best ones of --tune, which tries as many for a KAN as for an MLP
REFINED = {"adamw": True, "lbfgs": True, "lm": True}  # the grids of a KAN: coarse ones first, or only the last
ACTIVATION = {"adamw": "silu", "lbfgs": "tanh", "lm": "silu"}
LEARNING_RATE, RATES = {"kan": 0.01, "mlp": 0.1}, (0.003, 0.01, 0.03, 0.1, 0.3)
TUNING_SEEDS, TUNING_FUNCTIONS = (1000, 1001), ("exp_sin", "I.16.6", "bumps")


def halved(grid_size):
    """Grids that end with this one, each about twice the one before: 40 -> [5, 10, 20, 40]."""
    grids = [grid_size]
    while grids[0] >= 6:
        grids.insert(0, grids[0] // 2)
    return grids


def kan(widths, count, refined):
    """A KAN of nearly `count` parameters: its kind, configuration and grids."""
    edges = sum(n * m for n, m in zip(widths, widths[1:]))
    grids = halved(max(1, round(count / edges) - 4))[0 if refined else -1 :]
    return "kan", {"widths": widths, "grid_size": grids[0]}, grids


def mlp(inputs, hidden, count, activation):
    """The same of an MLP, which has no grids."""
    return "mlp", {"widths": equal_mlp(count, inputs, hidden), "activation": activation}, [1]


def network_of(name, network, optimizer, count):
    """One of the NETWORKS for a function, or None where there is none of about `count` parameters."""
    inputs = find(name).inputs
    if network.startswith("MLP"):
        return mlp(inputs, int(network[5]), count, ACTIVATION[optimizer])
    if network == "KAN, told":
        return kan(SHAPES[name], count, REFINED[optimizer]) if name in SHAPES else None
    # the 2n + 1 neurons of Kolmogorov's theorem
    return kan([inputs, 2 * inputs + 1, 1], count, REFINED[optimizer]) if inputs <= 4 else None


class Traced(Watch):
    """A watch that also looks at the test points now and then, while its clock stands still."""

    def __init__(self, config, seconds, test):
        super().__init__(config, seconds)
        self.test, self.trace = test, []

    def on_step(self, error, steps, gradients):
        used = super().on_step(error, steps, gradients)
        if not self.trace or self.seconds() > 1.25 * self.trace[-1][2] + 0.002:
            stopped = time.process_time()
            self.trace.append((self.steps, self.gradients, self.seconds(), rmse(self.model, *self.test)))
            self.began += time.process_time() - stopped
        return used


def run(cell, built, learning_rate=None) -> dict:
    """One fit, `cell` a dict of the KEY: its row of results. The test is on points that it has not seen."""
    kind, config, grids = built
    name, seed = cell["function"], cell["seed"]
    recipe = Recipe(cell["optimizer"], grids, steps=10**9, learning_rate=learning_rate or LEARNING_RATE[kind])
    x, y = sample(name, POINTS, seed)
    test = sample(name, POINTS, seed + 2**20, noise=False)
    watch = Traced(config, cell["budget"], test)
    fit_start(watch, kind, x, y, recipe, seed)
    assert watch.kept  # the first step keeps one
    model = restored(kind, watch.kept)
    watch.trace.append((watch.steps, watch.gradients, watch.rows[-1][2], rmse(model, *test)))
    keep_trace = name in TRACED and cell["size"] == PARAMETERS.get(name, 210)
    return cell | {"widths": "-".join(map(str, config["widths"])), "parameters": model.parameter_count(),
                   "train": watch.kept.error, "test": watch.trace[-1][3], "steps": watch.steps,
                   "gradients": watch.gradients, "seconds": watch.rows[-1][2],
                   "trace": watch.trace if keep_trace else []}


def cells(names, seeds, seconds):
    """The KEY of each fit to do, seeds first: what there is after a while is a whole comparison with fewer seeds."""
    def of(name, optimizer, seed, count):
        budget = rounded(seconds * LONGER.get(name, 1))
        return (dict(zip(KEY, (name, network, optimizer, seed, count, budget))) for network in NETWORKS
                if network_of(name, network, optimizer, count))

    for seed in seeds:
        for name in names:
            for optimizer in OPTIMIZERS:
                yield from of(name, optimizer, seed, PARAMETERS.get(name, 210))
    for seed in seeds[:SIZED_SEEDS]:
        for name in (name for name in names if name in SIZED):
            for count in SIZES:
                yield from of(name, "lm", seed, count)


def rounded(value):
    if isinstance(value, (list, tuple)):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def load(path):
    """The rows that are there: key -> row. Raises UserError for a file that is something else."""
    if not path.exists():
        return {}
    try:
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no results of this script: delete it") from error
    return {tuple(row[part] for part in KEY): row for row in rows}


def save(path, rows):
    """JSON, each fit a line of it."""
    lines = ",\n".join(json.dumps([rounded(row[column]) for column in COLUMNS]) for row in rows)
    with replacing(path) as beside:
        beside.write_text(f'{{"machine": {json.dumps(machine("torch"))},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8")


def groups(rows):
    """(function, optimizer, network) -> its rows, one for each seed."""
    found = {}
    for row in rows:
        if row["size"] == PARAMETERS.get(row["function"], 210):
            found.setdefault((row["function"], row["optimizer"], row["network"]), []).append(row)
    return found


def failures(rows):
    """How many ended above FAILED times the best of the same network, function and optimizer."""
    return sum(row["test"] > FAILED * min(row["test"] for row in rows) for row in rows)


def middle(rows, column="test"):
    return median(row[column] for row in rows)


def table(rows):
    """Median and best test RMSE of the seeds, and failures; the lowest median of a line is bold."""
    found = groups(rows)
    yield "| function | optimizer | " + " | ".join(NETWORKS) + " |"
    yield "|---" * (2 + len(NETWORKS)) + "|"
    for name, optimizer in dict.fromkeys(key[:2] for key in found):
        of = {network: found.get((name, optimizer, network)) for network in NETWORKS}
        lowest = min(middle(each) for each in of.values() if each)
        words = []
        for each in of.values():
            if each:
                word, lost = f"{middle(each):.1e}", failures(each)
                words.append((f"**{word}**" if middle(each) == lowest else word)
                             + f" / {min(row['test'] for row in each):.1e}" + (f", {lost} failed" if lost else ""))
            else:
                words.append("")
        yield f"| {name} | {optimizer} | " + " | ".join(words) + " |"


def costs(rows):
    """What each network costs with each optimizer, and how often it is the best one: over all functions."""
    found = groups(rows)
    yield ("| network | optimizer | lowest median on | RMSE, times the lowest | failed | steps | gradients | seconds |"
           " ms a step |")
    yield "|---" * 9 + "|"
    for network in NETWORKS:
        for optimizer in OPTIMIZERS:
            mine = {key[0]: each for key, each in found.items() if key[1:] == (optimizer, network)}
            if not mine:
                continue
            every = [row for each in mine.values() for row in each]
            times = [middle(each) / min(middle(other) for key, other in found.items() if key[:2] == (name, optimizer))
                     for name, each in mine.items()]
            step = 1000 * median(row["seconds"] / max(1, row["steps"]) for row in every)
            yield (f"| {network} | {optimizer} | {times.count(1)} of {len(mine)} | {geometric_mean(times):.1f} |"
                   f" {sum(failures(each) for each in mine.values())} of {len(every)} | {middle(every, 'steps'):,.0f} |"
                   f" {middle(every, 'gradients'):,.0f} | {middle(every, 'seconds'):.2f} | {step:.2f} |")


def among(rows, names):
    return [name for name in names if any(row["function"] == name for row in rows)]


def draw_parameters(rows, path):
    """Test RMSE against parameters with lm: a line of medians, and every seed a point."""
    figure, names = Figure(figsize=(9, 4), layout="constrained"), among(rows, SIZED)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        for i, network in enumerate(NETWORKS):
            mine = [row for row in rows if (row["function"], row["network"], row["optimizer"]) == (name, network, "lm")]
            sizes = sorted({row["parameters"] for row in mine})
            lines = [median(row["test"] for row in mine if row["parameters"] == size) for size in sizes]
            axes.plot(sizes, lines, color=f"C{i}", label=network)
            axes.plot([row["parameters"] for row in mine], [row["test"] for row in mine], ".", color=f"C{i}", ms=4)
        axes.set(title=name, xlabel="parameters", xscale="log", yscale="log")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test RMSE, lm")
    figure.axes[0].legend(frameon=False)
    save_figure(figure, path)


def draw_costs(rows, path):
    """Test RMSE against steps, gradient evaluations and seconds: medians of the seeds."""
    figure, names = Figure(figsize=(12, 7), layout="constrained"), among(rows, TRACED)
    found, drawn = groups(rows), ("KAN, told", "KAN, blind", "MLP, 2 hidden")
    for line, name in zip(figure.subplots(len(names), 3, sharey="row", squeeze=False), names):
        for axes, column, label in zip(line, range(3), ("steps", "gradient evaluations", "seconds of one core")):
            for i, network in enumerate(drawn):
                for optimizer, style in zip(OPTIMIZERS, (":", "--", "-")):
                    traces = [np.array(row["trace"]) for row in found[name, optimizer, network]]
                    places = np.geomspace((1, 1, 1e-3)[column], max(trace[-1, column] for trace in traces), 60)
                    heights = [trace[np.searchsorted(trace[:, column], places, side="right").clip(1) - 1, 3]
                               for trace in traces]
                    axes.plot(places, np.median(heights, 0), style, color=f"C{i}", label=f"{network}, {optimizer}")
            axes.set(xlabel=label, xscale="log", yscale="log")
            axes.grid(alpha=0.3)
        line[0].set_ylabel(f"{name}: test RMSE")
    figure.axes[0].legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def tune(seconds):
    """Print the geometric mean of the RMSE on validation points, for as many choices of a KAN as of an MLP."""
    print("| network | choice | optimizer | learning rate | RMSE |\n|---|---|---|---|---|")
    for kind, choices in (("kan", (True, False)), ("mlp", ("silu", "tanh"))):
        for choice in choices:
            built = kan([2, 5, 1], 210, choice) if kind == "kan" else mlp(2, 2, 210, choice)
            word = choice if kind == "mlp" else "coarse grids first" if choice else "one grid"
            for optimizer, rate in [("lm", None), ("lbfgs", None), *(("adamw", rate) for rate in RATES)]:
                errors = [run(dict(zip(KEY, (name, word, optimizer, seed, 0, seconds))), built, rate)["test"]
                          for name in TUNING_FUNCTIONS for seed in TUNING_SEEDS]
                print(f"| {kind} | {word} | {optimizer} | {rate or ''} | {geometric_mean(errors):.1e} |", flush=True)


def main():
    parser = flags.Parser("Compare KANs and MLPs of equal parameters: three optimizers, fourteen functions.")
    parser.add_argument("-d", "--data", nargs="+", metavar="NAME", choices=TARGETS, default=list(TARGETS),
                        help="functions (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], metavar="N", help="one fit of each")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the processor, for each fit; 'hundred' has more")
    parser.add_argument("--results", metavar="FOLDER", default=str(flags.CHECKPOINTS / "06_answer"), help="of fits")
    parser.add_argument("-o", "--output", metavar="FOLDER", default=str(flags.CHECKPOINTS / "06_answer"),
                        help="where to draw")
    parser.add_argument("--tune", action="store_true", help="show what the choices in this file were made by")
    args = parser.parse()
    if not 0 < args.seconds < math.inf:
        raise UserError(f"seconds {args.seconds} must be more than 0")
    torch.set_num_threads(1)
    if args.tune:
        return tune(args.seconds)
    path = Path(args.results) / "answer.json"
    there, wanted = load(path), list(cells(args.data, args.seeds, args.seconds))
    for number, cell in enumerate(wanted, 1):
        key = tuple(cell.values())
        if key not in there:
            there[key] = run(cell, network_of(cell["function"], cell["network"], cell["optimizer"], cell["size"]))
            save(path, there.values())
            if number % 50 == 0 or number == len(wanted):
                print(f"{number} of {len(wanted)} fits", file=sys.stderr, flush=True)
    rows = [there[tuple(cell.values())] for cell in wanted]
    for draw, names, what in ((draw_parameters, SIZED, "parameters"), (draw_costs, TRACED, "costs")):
        if among(rows, names):
            draw(rows, Path(args.output) / f"answer_{what}.png")
    print(*table(rows), "", *costs(rows), "", sep="\n")
    print(f"{len(rows)} fits in {shown(path)}, figures of them in {shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
