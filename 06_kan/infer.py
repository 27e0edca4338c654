"""Ask a trained KAN, and the MLP beside it, for values; draw the KAN's curves; write its formula.

    python 06_kan/infer.py 0.5 -0.2                    # x1 and x2 of one point; 4 numbers are two points
    python 06_kan/infer.py --plot --formula
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from approximate import check_prune, ensure_model, load_models, shown_number
from atomic import save_figure
from fit_report import NAMES
from flags import UserError, shown
from functions import TARGETS, rescale, unscale, values
from kan_tools import draw, formula, prune, suggest


@torch.no_grad()
def show_values(models, loaded, x):
    """A line for each point x (B, n), in the numbers of the data: what the networks say, and what is true."""
    scale, name = loaded["scale"], loaded["run"]["data"]
    places = rescale(x, scale["ranges"])
    found = {NAMES[kind]: model(places) * scale["deviation"] + scale["mean"] for kind, model in models.items()}
    if name in TARGETS and TARGETS[name].function:
        found["exact"] = values(name, places)
    for i, point in enumerate(x.tolist()):
        outside = "" if places[i].abs().max() <= 1 else "   (outside of what it learned)"
        print(f"f({', '.join(f'{number:.6g}' for number in point)}): "
              + ", ".join(f"{what} {y[i, 0].item():.7g}" for what, y in found.items()) + outside)


def show_formula(model, x, scale, digits):
    """The best known function of each edge, and what they make together."""
    for level, layer in enumerate(model.layers):
        for i in range(layer.in_size):
            for j in range(layer.out_size):
                name, r2, _ = suggest(model, level, i, j, x)[0]
                print(f"layer {level + 1}, from {i + 1} to {j + 1}: {name:9s} R^2 {r2:.6f}")
    (text,), worst = formula(model, x, digits)
    if (scale["mean"], scale["deviation"]) == (0, 1):
        print(f"y = {text}")
    else:
        print(f"y = {scale['mean']:.6g} + {scale['deviation']:.6g} ({text})")
    if any(tuple(pair) != (-1, 1) for pair in scale["ranges"]):
        print("    where " + ", ".join(f"x{i + 1} is brought from {low:.6g} ... {high:.6g} to -1 ... 1"
                                       for i, (low, high) in enumerate(scale["ranges"])))
    print(f"    as good as its worst edge: R^2 {worst:.6f}")


def main():
    parser = flags.Parser("Ask a trained KAN, and the MLP beside it, for values; draw its curves; write its formula.")
    parser.add_argument("numbers", nargs="*", type=float, help="x1 ... xn of one or more points (default: the middle"
                        " of the ranges, and two points beside it)")
    parser.add_argument("-l", "--load_model", metavar="PATH", help="checkpoint (default: checkpoints/06_kan.pt)")
    parser.add_argument("--plot", nargs="?", const="kan.png", metavar="FILE",
                        help="draw the KAN with the curve of every edge (default: kan.png)")
    parser.add_argument("--formula", action="store_true", help="a known function for each edge, and the whole as text")
    parser.add_argument("--digits", type=int, metavar="N", default=4, help="that the formula's numbers have")
    parser.add_argument("--prune", type=float, metavar="SHARE", default=0.0,
                        help="first leave out edges and neurons that give less than this share of their layer's"
                             " largest, such as 0.01")
    args = parser.parse()
    check_prune(args.prune)
    flags.check_ranges(args, digits=(1, 15))
    torch.set_num_threads(1)
    models, loaded = load_models(args.load_model or ensure_model())
    model, x, scale = models["kan"], loaded["points"], loaded["scale"]
    inputs = model.widths[0]
    if len(args.numbers) % inputs:
        raise UserError(f"{len(args.numbers)} numbers can't be points of {loaded['run']['data']}, which has {inputs}"
                        f" inputs: give {inputs}, or {2 * inputs} for two points")
    if not all(abs(number) < float("inf") for number in args.numbers):
        raise UserError(f"{shown_number(args.numbers)} must all be finite numbers")
    if args.prune:
        models["kan"] = model = prune(model, x, args.prune)
        print(f"pruned to {'-'.join(map(str, model.widths))}")
    points = torch.tensor(args.numbers, dtype=torch.float64).view(-1, inputs)
    if not args.numbers and not (args.plot or args.formula):
        points = unscale(torch.tensor([[0.0], [-0.5], [0.5]], dtype=torch.float64).repeat(1, inputs), scale["ranges"])
    show_values(models, loaded, points)
    if args.formula:
        show_formula(model, x, scale, args.digits)
    if args.plot:
        save_figure(draw(model, x), args.plot)
        print(f"the KAN, drawn: {shown(args.plot)}")


if __name__ == "__main__":
    flags.run(main)
