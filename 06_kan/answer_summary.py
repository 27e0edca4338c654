"""The fits of answer.py in two tables and two figures. A row of them is a dict, one fit of one network."""

from statistics import geometric_mean, median

import numpy as np
from fit_report import FAILED
from matplotlib.figure import Figure

SIZED = ("exp_sin", "III.10.19")  # whose errors are drawn against parameters
TRACED = ("exp_sin", "III.10.19")  # and against steps, gradients and seconds
OPTIMIZERS = ("adamw", "lbfgs", "lm")
NETWORKS = ("KAN, told", "KAN, blind", "MLP, 1 hidden", "MLP, 2 hidden", "MLP, 3 hidden")


def usual_size(name):
    """The parameters of each network that learns a function, as near as can be."""
    return {"four": 320, "hundred": 909}.get(name, 210)


def groups(rows):
    """(function, optimizer, network) -> its rows, one for each seed."""
    found = {}
    for row in rows:
        if row["size"] == usual_size(row["function"]):
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


def draw_parameters(rows):
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
    return figure


def draw_costs(rows):
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
    return figure
