"""What a KAN and an MLP came to, as lines and as a picture."""

from least_squares import rmse
from matplotlib.figure import Figure
from watched_fits import restored

NAMES = {"kan": "KAN", "mlp": "MLP"}
FAILED = 10  # times the error of the best start: what is worse sits in a valley that it can't leave


def report(kind, watches, test, scale, classes):
    """Print what a network came to; returns the best start's Kept."""
    best = min(watches, key=lambda watch: watch.kept.error)
    model, size = restored(kind, best.kept), scale["deviation"]
    failed = sum(not watch.kept.error <= FAILED * best.kept.error for watch in watches)
    of_grid = f", grid {model.grid_size}, order {model.order}" if kind == "kan" else f", {model.activation}"
    print(f"{NAMES[kind]} {'-'.join(map(str, model.widths))}{of_grid}: {model.parameter_count():,} parameters")
    print(f"    best of {len(watches)} starts: training RMSE {best.kept.error * size:.2e},"
          f" test RMSE {rmse(model, *test) * size:.2e}")
    if classes:
        right = ((model(test[0]) > 0.5) == (test[1] > 0.5)).double().mean()
        print(f"    {right:.1%} of the test points are in the right class")
    print(f"    its cost: {best.steps:,} steps, {best.gradients:,} gradient evaluations, {best.rows[-1][2]:.2f} s;"
          f" of all starts {sum(watch.rows[-1][2] for watch in watches):.2f} s")
    print(f"    training RMSE of each start: {' '.join(f'{watch.kept.error * size:.1e}' for watch in watches)}")
    print("    the same on the test points:",
          *(f"{rmse(restored(kind, watch.kept), *test) * size:.1e}" for watch in watches))
    print(f"    failed starts, above {FAILED} times the best: {failed} of {len(watches)}", flush=True)
    return best.kept


def draw_losses(watched, size, title):
    """The training RMSE against steps and against seconds: each start a line, the best one a thick one."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, column, label in zip(figure.subplots(1, 2, sharey=True), (0, 2), ("steps", "seconds")):
        for (kind, watches), color in zip(watched.items(), ("C0", "C1")):
            best = min(watches, key=lambda watch: watch.kept.error)
            for watch in watches:
                axes.plot([row[column] for row in watch.rows], [row[3] * size for row in watch.rows], color=color,
                          lw=2 if watch is best else 0.7, alpha=1 if watch is best else 0.5,
                          label=NAMES[kind] if watch is best else None)
        axes.set(xlabel=label, yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.axes[0].set_ylabel("training RMSE, lowest so far")
    figure.suptitle(title)
    return figure
