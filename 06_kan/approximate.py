"""Teach a function to a KAN and to an MLP of about as many parameters: the same points, the same optimizer.

    python 06_kan/approximate.py
    python 06_kan/approximate.py -d product --optimizer lbfgs --grid 5 10 --starts 3
    python 06_kan/approximate.py -d measured.csv --widths 3 2 1

`train.py` is the same; what `infer.py` needs of it stands here, since train.py is never imported.
"""

import argparse
import math
import sys
from pathlib import Path

import torch
from functions import SHAPES, TARGETS, find, ranges_of, read_points, rescale, sample

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import checkpoint
import flags
from atomic import save_figure
from fit_report import NAMES, draw_losses, report
from flags import UserError, shown
from kan_tools import prune
from mlp import ACTIVATIONS
from watched_fits import Kept, Recipe, fit_starts, restored

DEFAULT_CHECKPOINT = flags.CHECKPOINTS / "06_kan.pt"
STEPS = {"lm": 160, "lbfgs": 400, "adamw": 2000}
DEFAULTS = {"data": "exp_sin", "widths": None, "mlp_widths": None, "activation": "silu", "grid": None,
            "order": 3, "optimizer": "lm", "starts": 5, "trials": 1, "points": 2000}
ENOUGH = 320  # parameters of a KAN, above which the default grids become no finer
MOST = 2000  # parameters with lm, whose matrix of all pairs has to be solved in each step


def equal_mlp(count, inputs, hidden=2):
    """The widths of the MLP with so many hidden layers, all alike, whose number of parameters is nearest to `count`."""
    sizes = ([inputs, *[width] * hidden, 1] for width in range(1, 2 + count))
    return min(sizes, key=lambda widths: abs(sum((n + 1) * m for n, m in zip(widths, widths[1:])) - count))


def doubled(widths, order):
    """Grids of 5, 5, 10, 20 ... cells, for as long as a KAN of these widths has at most ENOUGH parameters.

    Chosen on seeds 1000 to 1005, which are reported nowhere: 5 twice refits the ranges before the curves are fine.
    """
    grids, edges = [5, 5], sum(n * m for n, m in zip(widths, widths[1:]))
    while edges * (2 * grids[-1] + order + 1) <= ENOUGH:
        grids.append(2 * grids[-1])
    return grids


def open_data(name, count, seed, scale=None):
    """Training points, test points, and how the reader's numbers become theirs: ((x, y), (x, y), scale).

    Of a file every fifth point, in an order by chance, is for the test. Raises UserError.
    """
    try:
        if name in TARGETS or not Path(name).is_file():
            known = {"ranges": [list(pair) for pair in find(name).ranges], "mean": 0.0, "deviation": 1.0}
            # what is learned may be noisy, and lies close together at the edges; what it is judged by does not
            return sample(name, count, seed, edges=True), sample(name, count, seed + 2**20, noise=False), scale or known
        x, y = read_points(name)
    except ValueError as error:
        raise UserError(str(error)) from error
    if len(x) < 10:
        raise UserError(f"{name} has {len(x)} points: give at least 10")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    test, train = order[::5], order[torch.arange(len(x)) % 5 != 0]
    scale = scale or {"ranges": [list(pair) for pair in ranges_of(x[train])], "mean": y[train].mean().item(),
                      "deviation": y[train].std().item() or 1.0}
    if len(scale["ranges"]) == x.shape[1]:  # else the widths will be told to be wrong
        x = rescale(x, scale["ranges"])
    y = (y - scale["mean"]) / scale["deviation"]
    if not (x.isfinite().all() and y.isfinite().all()):
        raise UserError(f"{name} has numbers that are too large to be scaled: divide its columns")
    return (x[train], y[train]), (x[test], y[test]), scale


def whole(word):
    if not word.removeprefix("-").isdigit():
        raise argparse.ArgumentTypeError(f"'{word}' is no whole number; learning_rate and steps stand before the flag")
    return int(word)


def training_arguments(description):
    parser = flags.Parser(description)
    parser.add_argument("-d", "--data", help=f"a function, one of {', '.join(TARGETS)}; or a CSV file with a first"
                        f" line x1,...,xn,y (default: {DEFAULTS['data']})")
    parser.add_argument("-l", "--load_model", metavar="PATH", default="untrained",
                        help="checkpoint to go on from: its weights, with a fresh optimizer")
    parser.add_argument("-s", "--save_model", metavar="PATH", default="default",
                        help="'default' is where it was loaded from, or checkpoints/06_kan.pt when untrained;"
                             " 'no_save' keeps nothing")
    group = parser.add_argument_group("networks")
    group.add_argument("--widths", nargs="+", type=whole, metavar="N",
                       help="neurons of the KAN's layers, such as 2 1 1 (default: the formula's shape, or n 2n+1 1)")
    group.add_argument("--mlp_widths", nargs="+", type=whole, metavar="N",
                       help="the same of the MLP (default: two hidden layers, as many parameters as the KAN)")
    group.add_argument("--activation", choices=ACTIVATIONS, help=f"of the MLP (default: {DEFAULTS['activation']})")
    group.add_argument("--grid", nargs="+", type=whole, metavar="G",
                       help="cells of each curve's grid, made finer one after the other; 5 5 5 only refits the ranges"
                            f" (default: 5 5 10 20 ..., up to {ENOUGH} parameters)")
    group.add_argument("--order", type=int, help=f"of the splines (default: {DEFAULTS['order']})")
    group = parser.add_argument_group("training")
    group.add_argument("--optimizer", choices=STEPS, help="lm is Levenberg-Marquardt; each step of any sees all points"
                                                          f" (default: {DEFAULTS['optimizer']})")
    group.add_argument("--starts", type=int, metavar="N",
                       help=f"how many seeds to begin from; the best one is kept (default: {DEFAULTS['starts']})")
    group.add_argument("--trials", type=int, metavar="N", help="short fits before each start, which goes on with"
                                                               f" the best one (default: {DEFAULTS['trials']})")
    group.add_argument("--points", type=int, metavar="N",
                       help=f"of a function, for training, and as many for the test (default: {DEFAULTS['points']})")
    group.add_argument("--sparsity", type=float, metavar="SHARE", default=0.0, help="with adamw: how much the KAN's"
                       " loss counts few and small curves, such as 0.05")
    group.add_argument("--prune", type=float, metavar="SHARE", default=0.0, help="with -l: first leave out edges and"
                       " neurons of the KAN that give less than this share of their layer's largest")
    group.add_argument("--seed", type=int, help="the same seed gives the same numbers (default: 1337)")
    parser.checkpointed |= DEFAULTS | {"seed": 1337}
    steps = ", ".join(f"{count} with {name}" for name, count in STEPS.items())
    flags.number_flags(parser, {"learning_rate": "0.01, for adamw alone", "steps": steps})
    return parser


def settle(args, loaded, path):
    """Fill in what was not typed, from the checkpoint or the defaults. Raises UserError for what can't be."""
    if loaded:
        for name, value in loaded["run"].items():
            if name in ("widths", "mlp_widths", "order", "activation") and args.typed.get(name, value) != value:
                raise UserError(f"{name} {shown_number(args.typed[name])} contradicts {path}, which has"
                                f" {shown_number(value)}: leave it out")
            if name not in args.typed and (name != "steps" or "optimizer" not in args.typed):
                setattr(args, name, value)
        if args.typed.get("starts", 1) != 1:
            raise UserError("--starts is for new networks: with -l leave it out")
        if args.typed.get("trials", 1) != 1:
            raise UserError("--trials is for new networks: with -l leave it out")
        args.starts, args.trials, args.grid = 1, 1, args.typed.get("grid", [loaded["configs"]["kan"]["grid_size"]])
    if isinstance(args.steps, str):
        args.steps = STEPS[args.optimizer]
    if isinstance(args.learning_rate, str):
        args.learning_rate = 0.01
    flags.check_numbers(args)
    if args.learning_rate > 10:
        raise UserError(f"learning_rate {args.learning_rate} must be at most 10: 0.01 is a good one")
    flags.check_ranges(args, order=1, starts=1, trials=1, points=10)
    if not 0 <= args.sparsity < math.inf or (args.sparsity and args.optimizer != "adamw"):
        raise UserError(f"sparsity {args.sparsity:g} must be at least 0, and goes with --optimizer adamw")
    if args.grid and min(args.grid) < 1:
        raise UserError(f"grid {shown_number(args.grid)} must be of numbers that are at least 1")


def settle_widths(args, inputs):
    """The configurations of both networks. Raises UserError for widths that don't fit the data, or are too many."""
    args.widths = args.widths or SHAPES.get(args.data) or [inputs, 2 * inputs + 1, 1]
    for name in ("widths", "mlp_widths"):
        widths = getattr(args, name)
        if widths and (len(widths) < 2 or min(widths) < 1 or widths[0] != inputs or widths[-1] != 1):
            raise UserError(f"{name} {shown_number(widths)} must begin with {inputs}, as many as {args.data} has"
                            " inputs, and end with 1")
    args.grid = args.grid or doubled(args.widths, args.order)
    count = sum(n * m for n, m in zip(args.widths, args.widths[1:])) * (args.grid[-1] + args.order + 1)
    args.mlp_widths = args.mlp_widths or equal_mlp(count, inputs)
    configs = {"kan": {"widths": args.widths, "grid_size": args.grid[0], "order": args.order},
               "mlp": {"widths": args.mlp_widths, "activation": args.activation}}
    of_mlp = sum((n + 1) * m for n, m in zip(args.mlp_widths, args.mlp_widths[1:]))
    if args.optimizer == "lm" and max(count, of_mlp) > MOST:
        raise UserError(f"lm needs a matrix of {max(count, of_mlp):,} x {max(count, of_mlp):,} parameters:"
                        " take --optimizer lbfgs, or a coarser --grid")
    return configs


def shown_number(value):
    """[2, 1, 1] -> "2 1 1"."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def leave_out(loaded, share):
    """Prune the KAN of what a checkpoint holds. Raises UserError."""
    if not loaded:
        raise UserError("--prune is for a trained KAN: name its checkpoint with -l")
    check_prune(share)
    whole = restored("kan", Kept(loaded["configs"]["kan"], loaded["models"]["kan"], 0.0))
    small = prune(whole, loaded["points"], share)
    loaded["models"]["kan"], loaded["run"]["widths"] = small.state_dict(), small.widths
    loaded["configs"]["kan"] |= {"widths": small.widths}
    print(f"pruned to {'-'.join(map(str, small.widths))}")


def check_prune(share):
    if not 0 <= share < 1:
        raise UserError(f"prune {share} must be at least 0 and less than 1")


def train_command(args):
    """Train both networks as the flags say and keep them; returns their errors, or None after Ctrl-C."""
    torch.set_num_threads(1)  # so little to do at a time that threads would only wait for each other
    load, save = flags.checkpoint_paths(args, DEFAULT_CHECKPOINT)
    loaded = checkpoint.load(load, "kan") if load else None
    if args.prune:
        leave_out(loaded, args.prune)
    settle(args, loaded, load)
    (x, y), test, scale = open_data(args.data, args.points, args.seed, loaded and loaded["scale"])
    configs = settle_widths(args, x.shape[1])
    if loaded:
        configs |= loaded["configs"]
    classes = args.data in TARGETS and find(args.data).classes
    print(f"{args.data}: {find(args.data).formula if args.data in TARGETS else 'points of a file'}")
    print(f"{len(x):,} training and {len(test[0]):,} test points; {args.optimizer}, at most {args.steps:,} steps;"
          f" knowing nothing but the mean: RMSE {test[1].std() * scale['deviation']:.3f}", flush=True)

    recipe = Recipe(args.optimizer, args.grid, max(1, args.steps // len(args.grid)), args.learning_rate, args.trials,
                    sparsity=args.sparsity)
    seeds = range(args.seed, args.seed + args.starts)
    watched, kept, stopped = {}, {}, False
    for kind in NAMES:
        state = loaded["models"].get(kind) if loaded else None
        watches, stopped = fit_starts(kind, configs[kind], x, y, recipe, seeds, state)
        if watches:
            watched[kind], kept[kind] = watches, report(kind, watches, test, scale, classes)
            configs[kind] = kept[kind].config
        elif not stopped:
            print(f"{NAMES[kind]}: no start gave a number; try a smaller learning_rate, or --optimizer lm")
        if stopped:
            break
    if stopped:
        print("stopped: what there is is the best so far")
    if save and kept:
        run = {name: getattr(args, name) for name in ("data", "widths", "mlp_widths", "activation", "order", "points",
                                                      "optimizer", "learning_rate", "steps", "seed")}
        states = (loaded["models"] if loaded else {}) | {kind: each.state for kind, each in kept.items()}
        checkpoint.save(save, "kan", models=states, configs=configs, scale=scale, points=x[:1000].clone(), run=run,
                        errors={kind: each.error for kind, each in kept.items()}, stopped=stopped)
        figure = draw_losses(watched, scale["deviation"], f"{args.data}, {args.optimizer}")
        save_figure(figure, save.with_suffix(".png"))
        print(f"checkpoint {shown(save)}, loss curves {shown(save.with_suffix('.png'))}")
    return None if stopped else {kind: each.error for kind, each in kept.items()}


def ensure_model():
    """The path of the default checkpoint; if there is none, it is trained now, in seconds."""
    return checkpoint.ensured(DEFAULT_CHECKPOINT, lambda words: train_command(training_arguments("").parse(words)))


def load_models(path):
    """A checkpoint's networks by kind, "kan" and "mlp", and all else that it holds."""
    loaded = checkpoint.load(path, "kan")
    if loaded.get("stopped"):
        print(f"{shown(path)} is of a run that was stopped before its end")
    return {kind: restored(kind, Kept(loaded["configs"][kind], state, 0.0))
            for kind, state in loaded["models"].items()}, loaded


def main():
    if train_command(training_arguments("Teach a function to a KAN and to an MLP, and compare them.").parse()) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
