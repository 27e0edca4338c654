"""The report's network by hand, on one curve: what gradient descent does, and what is left without an activation.

    python 06_kan/by_hand.py

Two networks of one input, 16 neurons and one output learn sin(pi x) by `mlp.gradient_descent`, no autograd. Without
activations theirs is the straight line that `mlp.collapsed` finds, and no line is near a sine.
"""

import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from mlp import MLP, collapsed, gradient_descent

WIDTHS, POINTS, RATE, STEPS = [1, 16, 1], 200, 0.1, 5000


def learned(activation):
    """(losses of all steps, weights, biases) of a network that learns a sine with this activation."""
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, POINTS)[:, None]  # (B, 1)
    layers = MLP(WIDTHS, activation).layers
    weights, biases = ([getattr(layer, name).detach() for layer in layers] for name in ("weight", "bias"))
    return gradient_descent(weights, biases, x, torch.sin(math.pi * x), RATE, STEPS, activation), weights, biases


def main():
    flags.Parser("Let a network by hand learn a sine, with an activation and without one.").parse()
    for activation in ("tanh", "none"):
        losses, weights, biases = learned(activation)
        print(f"activation {activation}: loss {losses[0]:.4f} at first, {losses[-1]:.4f} after {STEPS:,} steps")
    W, b = collapsed(weights, biases)
    print(f"without one, all of it is y = {W.item():.3f} x + {b.item():.3f}")


if __name__ == "__main__":
    flags.run(main)
