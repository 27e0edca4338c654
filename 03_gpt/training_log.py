"""What a run leaves to look at: a table of its history (CSV), and its loss curve (PNG)."""

import csv
import sys
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from atomic import replacing, save_figure


def write_log(history, path):
    """The rows of a history as a CSV file."""
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, history[0].keys())
        table.writeheader()
        table.writerows(history)


def draw_loss_curve(history, known, path, title):
    """Both losses against steps, with what is known beforehand: (what it is, that loss)."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, style in (("training", "-"), ("validation", "o-")):
        points = [(row["step"], row[f"{name}_loss"]) for row in history if row[f"{name}_loss"] is not None]
        if points:
            axes.plot(*zip(*points), style, markersize=3, label=name)
    axes.axhline(known[1], color="gray", linestyle=":", label=f"{known[0]} = {known[1]:.2f}")
    axes.set(xlabel="steps", ylabel="loss", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)
