"""The exercises of README.md: functions to write, and a check of each.

    python 06_kan/exercises.py answers_06.py      # writes the file, to be filled; checks it once it is there
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from answers import grade
from splines import bases

KNOTS = torch.tensor([[-1.0, -0.6, -0.5, 0.1, 0.3, 0.8, 1.0, 1.7]], dtype=torch.float64)  # at no equal distances


def check_hat(hat):
    for left, middle, right in ((-1.0, 0.0, 1.0), (0.2, 0.3, 0.9)):
        knots = torch.tensor([[left, middle, right]], dtype=torch.float64)
        x = torch.linspace(left - 0.5, right + 0.5, 41, dtype=torch.float64)
        expected = bases(x[:, None], knots, 1)[:, 0, 0].tolist()
        for place, wanted in zip(x.tolist(), expected):
            if not abs((found := hat(place, left, middle, right)) - wanted) < 1e-9:
                return f"hat({place:.3f}, {left}, {middle}, {right}) is {abs(wanted):.4f}, not {found:.4f}"


def check_basis(basis):
    x = torch.linspace(-1.21, 1.81, 61, dtype=torch.float64)  # none of these is a knot
    for order in range(4):
        expected = bases(x[:, None], KNOTS, order)[:, :, 0]
        for i in range(expected.shape[1]):
            for place, wanted in zip(x.tolist(), expected[:, i].tolist()):
                if not abs((found := basis(i, order, KNOTS[0].tolist(), place)) - wanted) < 1e-9:
                    hint = ": 1 in its own cell, 0 elsewhere" if order == 0 else ""
                    return f"basis({i}, {order}, knots, {place:.3f}) is {abs(wanted):.4f}, not {found:.4f}{hint}"


def check_backward(backward):
    x, W, b = (torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in ((5, 3), (4, 3), (4,)))
    d_y = torch.randn(5, 4, dtype=torch.float64)
    gradients = torch.autograd.grad((torch.tanh(x @ W.T + b) * d_y).sum(), (x, W, b))
    found = backward(x.detach(), W.detach(), b.detach(), d_y)
    linear = (d_y @ W.detach(), d_y.T @ x.detach(), d_y.sum(0))
    for name, of, wanted, without in zip(("d_x", "d_W", "d_b"), found, gradients, linear):
        if of.shape != wanted.shape:
            return f"{name} must have the shape {tuple(wanted.shape)} of what it is the gradient of, not {of.shape}"
        if torch.allclose(of, without):
            return f"{name} is that of a layer without tanh: multiply d_y by its slope, 1 - tanh^2, first"
        if not torch.allclose(of, wanted):
            return f"{name} is not what autograd finds"


if __name__ == "__main__":
    torch.manual_seed(0)
    flags.run(lambda: grade("06_kan", globals()))
