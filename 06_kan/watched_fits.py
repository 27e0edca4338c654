"""Fits of a KAN or an MLP from several beginnings, watched from outside: what each costs, and how far it comes."""

import math
import time
from dataclasses import dataclass

import torch
from kan_layer import KAN
from least_squares import fit_refining, lbfgs, levenberg_marquardt, multi_start, rmse
from mlp import MLP


@dataclass
class Kept:
    """A network as it stands in a checkpoint: what it is built of, its weights, its error on the training points."""

    config: dict
    state: dict
    error: float


class Watch:
    """What a fit costs and how far it comes, seen from outside: a hook that each pass over all points calls.

    `rows` has (step, seconds, the lowest RMSE so far of these grids).
    """

    def __init__(self, optimizer, model, config, x, y):
        self.optimizer, self.config, self.x, self.y = optimizer, config, x, y
        self.steps = self.gradients = 0
        self.rows, self.kept, self.began = [], None, time.perf_counter()
        model.register_forward_hook(self.look)

    def method(self, learning_rate):
        """The optimizer, as fit_refining calls it once for each grid."""
        def fit(model, x, y, steps, target):
            self.level, self.graded = None, False
            rmse(model, x, y)  # how it begins
            if self.optimizer == "adamw":
                history = adamw(model, x, y, steps, learning_rate)
            else:
                of = {"lm": levenberg_marquardt, "lbfgs": lbfgs}[self.optimizer]
                history = of(model, x, y, steps=steps, target=target)
            if not math.isfinite(history[-1]):  # which no finer grid can be fitted to
                raise FloatingPointError
            return history

        return fit

    @torch.no_grad()
    def look(self, model, inputs, output):
        if inputs[0] is not self.x:
            return
        graded = output.requires_grad
        error = (output - self.y).square().mean().sqrt().item()
        if self.level is None:
            self.level = error
            self.gradients += self.optimizer == "lm"  # a Jacobian to begin with, and one after each better step
        else:
            # L-BFGS looks once more where its line search ended; LM looks at each step that it tries
            self.steps += {"adamw": graded, "lbfgs": self.graded and not graded, "lm": True}[self.optimizer]
            self.gradients += error < self.level if self.optimizer == "lm" else graded
        self.graded, self.level = graded, min(error, self.level)
        self.rows.append((self.steps, time.perf_counter() - self.began, self.level))
        if error < (0.9 * self.kept.error if self.kept else math.inf):  # not each time: it costs as much as a step
            self.keep(model, error)

    def keep(self, model, error):
        """For the end, and for Ctrl-C, which may come amid a step."""
        config = self.config | {"grid_size": model.grid_size} if isinstance(model, KAN) else self.config
        self.kept = Kept(config, {name: value.clone() for name, value in model.state_dict().items()}, error)


def adamw(model, x, y, steps, learning_rate):
    """All points in each step, and a learning rate that falls in a straight line to 0; returns the last RMSE in a list.

    Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization"; nothing decays here.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return [rmse(model, x, y)]


def build(kind, config):
    return {"kan": KAN, "mlp": MLP}[kind](**config).double()


def restored(kind, kept):
    """The network of a Kept."""
    model = build(kind, kept.config)
    model.load_state_dict(kept.state)
    return model


def fit_starts(kind, config, x, y, args, state=None):
    """Fit from `args.starts` seeds, or once from a state: (the Watch of each, whether Ctrl-C came)."""
    watches = []

    def begin():
        model = build(kind, config)
        if state:
            model.load_state_dict(state)
        return model

    def fit(model):
        watches.append(watch := Watch(args.optimizer, model, config, x, y))
        method, steps = watch.method(args.learning_rate), max(1, args.steps // len(args.grid))
        try:
            if kind == "kan":
                fit_refining(model, x, y, args.grid, steps=steps, method=method)
            else:
                method(model, x, y, steps=steps * len(args.grid), target=0.0)
        except FloatingPointError:
            return math.inf
        error = rmse(model, x.clone(), y)  # a copy, which the watch does not count
        watch.keep(model, error)
        return error

    try:
        multi_start(begin, fit, range(args.seed, args.seed + args.starts))
    except KeyboardInterrupt:
        return [watch for watch in watches if watch.kept], True
    return [watch for watch in watches if watch.kept], False
