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
from statistics import geometric_mean

import answer_summary as summary
import torch
from answer_summary import NETWORKS, OPTIMIZERS, SIZED, TRACED, usual_size
from functions import SHAPES, TARGETS, find, sample

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from approximate import equal_mlp
from atomic import replacing, save_figure
from flags import UserError, shown
from least_squares import rmse
from measure import machine
from watched_fits import Recipe, Watch, fit_start, restored

POINTS = 1000  # to learn from, and as many for the test
LONGER = {"hundred": 3}  # times the others' seconds
SIZES, SIZED_SEEDS = (50, 100, 420), 3  # of the figure of parameters, besides the usual size; with lm
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
    keep_trace = name in TRACED and cell["size"] == usual_size(name)
    return cell | {"widths": "-".join(map(str, config["widths"])), "parameters": model.parameter_count(),
                   "train": watch.kept.error, "test": watch.trace[-1][3], "steps": watch.steps,
                   "gradients": watch.gradients, "seconds": watch.rows[-1][2],
                   "trace": watch.trace if keep_trace else []}


def cells(names, seeds, seconds):
    """The KEY of each fit to do, seeds first: what there is after a while is a whole comparison with fewer seeds."""
    def with_each_network(name, optimizer, seed, count):
        budget = rounded(seconds * LONGER.get(name, 1))
        return (dict(zip(KEY, (name, network, optimizer, seed, count, budget))) for network in NETWORKS
                if network_of(name, network, optimizer, count))

    for seed in seeds:
        for name in names:
            for optimizer in OPTIMIZERS:
                yield from with_each_network(name, optimizer, seed, usual_size(name))
    for seed in seeds[:SIZED_SEEDS]:
        for name in (name for name in names if name in SIZED):
            for count in SIZES:
                yield from with_each_network(name, "lm", seed, count)


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
    for draw, names, what in ((summary.draw_parameters, SIZED, "parameters"), (summary.draw_costs, TRACED, "costs")):
        if summary.among(rows, names):
            save_figure(draw(rows), Path(args.output) / f"answer_{what}.png")
    print(*summary.table(rows), "", *summary.costs(rows), "", sep="\n")
    print(f"{len(rows)} fits in {shown(path)}, figures of them in {shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
