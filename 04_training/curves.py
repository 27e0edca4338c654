"""Draw the loss curves of several runs into one picture, from the logs that they leave beside their checkpoints.

    python 04_training/curves.py checkpoints/04_training.csv stories.csv -o curves.png
"""

import csv
import sys
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from atomic import save_figure
from flags import UserError


def read_log(path):
    """(steps, training losses), (steps, validation losses) of a log. Raises UserError if it is none."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        names = ("training_loss", "validation_loss")
        curves = [[(row["step"], row[name]) for row in rows if name in row] for name in names]
        return [tuple(zip(*curve)) for curve in curves if curve]
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is no log of a run: give a .csv that train.py wrote") from error


def main():
    parser = flags.Parser("Draw the loss curves of several runs into one picture.")
    parser.add_argument("logs", nargs="+", metavar="LOG", help="the .csv beside a checkpoint")
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "04_curves.png"), help="where to draw")
    args = parser.parse()
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for i, path in enumerate(args.logs):
        curves = read_log(path)
        if not curves:
            raise UserError(f"{path} has no row yet: wait for the first hundredth of the run")
        styles: list[dict] = [{"alpha": 0.4}, {"marker": "o", "markersize": 3, "label": Path(path).stem}]
        for curve, style in zip(curves, styles):
            axes.plot(*curve, color=f"C{i}", **style)
    axes.set(xlabel="steps", ylabel="nats per token (dots: validation split)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save_figure(figure, args.output)
    print(f"figure {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
