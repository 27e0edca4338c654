"""The paper's scaling law: with cubic splines the error of a KAN falls with the fourth power of its grid's size.

    python 06_kan/scaling_law.py                 # about two minutes

exp(sin(pi x) + y^2), a KAN 2-1-1 in float64, made finer and finer with Levenberg-Marquardt; beside it MLPs of as many
parameters. Liu et al. 2024, "KAN: Kolmogorov-Arnold Networks", section 2.3: RMSE ~ G^-(k + 1), here G^-4.

The points to learn from lie close together at the edges (functions.sample says why), those of the test are random.
How they lie, and how many they are, was chosen on seeds 100 to 102.
"""

import sys
from pathlib import Path
from statistics import median

import numpy as np
import torch
from functions import sample

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from approximate import equal_mlp
from atomic import save_figure
from flags import UserError, shown
from kan_layer import KAN
from least_squares import fit_refining, levenberg_marquardt, multi_start, rmse
from matplotlib.figure import Figure
from mlp import MLP

NAME, WIDTHS, STEPS = "exp_sin", [2, 1, 1], 20
BEGUN = 2e-2  # an RMSE at 5 cells above which a start sits in a valley, and the next one is tried
STARTS = 20  # at most


def kan_errors(x, y, test, grids, seed):
    """Test RMSE at each of the grids, of which the first is refitted twice; and how many starts it took."""
    model, tried = multi_start(
        lambda: KAN(WIDTHS, grid_size=grids[0]).double(),
        lambda model: fit_refining(model, x, y, grids[:1] * 3, STEPS, target=BEGUN)[-1][-1],
        range(seed * STARTS, (seed + 1) * STARTS), target=BEGUN)
    errors = []
    for grid in grids:
        fit_refining(model, x, y, [grid], STEPS)
        errors.append(rmse(model, *test))
    return errors, len(tried)


def mlp_errors(x, y, test, widths, seed, starts=2):
    """Test RMSE of the best of two MLPs, chosen by its training RMSE, for each of the widths."""
    errors = []
    for sizes in widths:
        model, _ = multi_start(lambda sizes=sizes: MLP(sizes).double(),
                               lambda model: levenberg_marquardt(model, x, y, 3 * STEPS)[-1],
                               range(seed * starts, (seed + 1) * starts))
        errors.append(rmse(model, *test))
    return errors


def slope(grids, errors):
    """Of the straight line through log RMSE against log G, from 10 cells on."""
    kept = [(grid, error) for grid, error in zip(grids, errors) if grid >= 10]
    x, y = np.log(kept).T
    return np.polyfit(x, y, 1)[0]


def draw(grids, of_kan, of_mlp, path):
    """RMSE against the size of the grid: every seed a point, medians a line, and the paper's slope."""
    figure = Figure(figsize=(6, 4.4), layout="constrained")
    axes = figure.subplots()
    for errors, color, label in ((of_kan, "C0", "KAN 2-1-1"), (of_mlp, "C1", "MLP of as many parameters")):
        middle = [median(each) for each in zip(*errors)]
        axes.plot(grids, middle, color=color, label=label)
        axes.plot(grids, np.transpose(errors), ".", color=color)
        if color == "C0":
            axes.plot(grids, middle[-1] * (np.array(grids) / grids[-1]) ** -4.0, "k:", label="slope -4")
    axes.set(xlabel="G, cells of the grid", ylabel="test RMSE", xscale="log", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save_figure(figure, path)


def main():
    parser = flags.Parser("The error of a KAN against the size of its grid.")
    parser.add_argument("--grid", nargs="+", type=int, metavar="G", default=[5, 10, 20, 50, 100, 200],
                        help="cells, from few to many")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="of points and fits")
    parser.add_argument("--points", type=int, default=8000, help="to learn from, and 20,000 for the test")
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "06_scaling_law.png"), help="where to draw")
    args = parser.parse()
    if sorted(set(args.grid)) != args.grid or args.grid[0] < 1 or sum(grid >= 10 for grid in args.grid) < 2:
        raise UserError("grid must rise from 1 or more, and have two sizes from 10 on, for the slope")
    flags.check_ranges(args, points=10)
    torch.set_num_threads(1)
    counts = [3 * (grid + 4) for grid in args.grid]
    widths = [equal_mlp(count, 2) for count in counts]
    of_kan, of_mlp = [], []
    for seed in args.seeds:
        x, y = sample(NAME, args.points, seed, edges=True)
        test = sample(NAME, 20000, seed + 2**20)
        errors, starts = kan_errors(x, y, test, args.grid, seed)
        of_kan.append(errors)
        of_mlp.append(mlp_errors(x, y, test, widths, seed))
        print(f"seed {seed}, start {starts}: slope {slope(args.grid, errors):.2f}, RMSE {errors[-1]:.2e} at"
              f" {args.grid[-1]} cells", flush=True)
    print("\n| cells | parameters | KAN, test RMSE | MLP | test RMSE |\n|---|---|---|---|---|")
    for i, (grid, count) in enumerate(zip(args.grid, counts)):
        print(f"| {grid} | {count} | {median(each[i] for each in of_kan):.2e} | {'-'.join(map(str, widths[i]))} |"
              f" {median(each[i] for each in of_mlp):.2e} |")
    print(f"\nmedians of {len(args.seeds)} seeds; slope of the KAN's medians from 10 cells on:"
          f" {slope(args.grid, [median(each) for each in zip(*of_kan)]):.2f}")
    draw(args.grid, of_kan, of_mlp, Path(args.output))
    print(f"figure: {shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
