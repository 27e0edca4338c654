"""Fits of a KAN or an MLP from several beginnings, watched: what each costs, and how far it comes."""

import math
import time
from dataclasses import dataclass

import torch
from kan_layer import KAN
from least_squares import fit_refining, lbfgs, levenberg_marquardt, multi_start, rmse, unlimited
from mlp import MLP

TRIAL = [20] * 3  # steps of a short trial of a beginning; between them the ranges of a KAN's grids are refitted


@dataclass
class Recipe:
    """How to fit: which steps, how many for each grid of a KAN, and how much time of the processor at most."""

    optimizer: str
    grid: list  # of a KAN, one after the other; an MLP has all their steps at once
    steps: int  # for each grid
    learning_rate: float = 0.01  # of adamw
    trials: int = 1  # short trials from so many beginnings, of which the best one goes on
    seconds: float = math.inf
    sparsity: float = 0.0  # with adamw: how much a KAN's loss counts few and small curves


@dataclass
class Kept:
    """A network as it stands in a checkpoint: what it is built of, its weights, its error on the training points."""

    config: dict
    state: dict
    error: float


class Watch:
    """What a fit costs and how far it comes: `on_step` is called by the optimizer after each of its steps.

    `rows` has (steps, gradients, seconds of the processor, the lowest RMSE so far of these grids).
    """

    def __init__(self, config, seconds=math.inf):
        self.config, self.budget = config, seconds
        self.steps = self.gradients = 0
        self.rows, self.kept, self.began = [], None, time.process_time()

    def seconds(self):
        return time.process_time() - self.began

    def begin(self, model, shares=1):
        """A fit of a model begins, which may take one of so many equal shares of the time that is left."""
        self.model, self.lowest, self.level_began = model, math.inf, self.seconds()
        self.level_seconds = (self.budget - self.level_began) / shares

    def on_step(self, error, steps, gradients):
        """See least_squares.unlimited. Raises FloatingPointError where the error is no number."""
        self.steps, self.gradients = self.steps + steps, self.gradients + gradients
        if not math.isfinite(error):  # which no finer grid can be fitted to
            raise FloatingPointError("the fit has ended in no number")
        self.lowest = min(error, self.lowest)
        self.rows.append((self.steps, self.gradients, self.seconds(), self.lowest))
        if error < (0.9 * self.kept.error if self.kept else math.inf):  # not each time: it costs as much as a step
            self.keep(error)
        spent = self.seconds() - self.level_began
        return spent / self.level_seconds if spent < self.level_seconds else 1.0

    def keep(self, error):
        """For the end, and for Ctrl-C, which may come amid a step."""
        model = self.model
        config = self.config | {"grid_size": model.grid_size} if isinstance(model, KAN) else self.config
        self.kept = Kept(config, {name: value.clone() for name, value in model.state_dict().items()}, error)


def adamw(model, x, y, steps, learning_rate, on_step=unlimited, sparsity=0.0):
    """All points in each step, and a learning rate that falls in a straight line to 0; returns the last RMSE in a list.

    Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization"; nothing decays here.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    for step in range(steps):
        optimizer.zero_grad()
        error = (model(x) - y).square().mean()
        loss = error + sparsity * model.regularization(x) if sparsity else error
        loss.backward()
        used = max(on_step(math.sqrt(error.item()), 1, 1), step / steps)
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - used)
        optimizer.step()
        if used >= 1:
            break
    return [rmse(model, x, y)]


def build(kind, config):
    return {"kan": KAN, "mlp": MLP}[kind](**config).double()


def restored(kind, kept):
    """The network of a Kept."""
    model = build(kind, kept.config)
    model.load_state_dict(kept.state)
    return model


def fit(watch, model, x, y, recipe, grid, steps, target=0.0):
    """One fit as the recipe says, but with these grids and steps; returns the last RMSE."""
    left = len(grid)

    def method(model, x, y, steps, target):
        nonlocal left
        watch.begin(model, left)
        left -= 1
        if recipe.optimizer == "adamw":
            sparsity = recipe.sparsity if isinstance(model, KAN) else 0.0
            return adamw(model, x, y, steps, recipe.learning_rate, watch.on_step, sparsity)
        second_order = {"lm": levenberg_marquardt, "lbfgs": lbfgs}[recipe.optimizer]
        return second_order(model, x, y, steps=steps, target=target, on_step=watch.on_step)

    if isinstance(model, KAN):
        return fit_refining(model, x, y, grid, steps=steps, method=method, target=target)[-1][-1]
    left = 1
    return method(model, x, y, steps=steps * len(grid), target=target)[-1]


def fit_start(watch, kind, x, y, recipe, seed, state=None):
    """Build, try, and fit one network; what comes of it is in the watch, even where it ends in no number."""
    def begin():
        model = build(kind, watch.config)
        if state:
            model.load_state_dict(state)
        return model

    def attempt(model):
        if recipe.trials == 1:
            return 0.0
        try:
            return fit(watch, model, x, y, recipe, recipe.grid[:1] * len(TRIAL), TRIAL[0])
        except FloatingPointError:
            return math.inf

    try:
        model, _ = multi_start(begin, attempt, range(seed * recipe.trials, (seed + 1) * recipe.trials))
        error = fit(watch, model, x, y, recipe, recipe.grid, recipe.steps)
        watch.model = model
        if math.isfinite(error):
            watch.keep(error)
    except FloatingPointError:
        pass


def fit_starts(kind, config, x, y, recipe, seeds, state=None):
    """Fit from each of the seeds, or once from a state: (the Watch of each, whether Ctrl-C came)."""
    watches, stopped = [], False
    try:
        for seed in seeds:
            watches.append(Watch(config, recipe.seconds))
            fit_start(watches[-1], kind, x, y, recipe, seed, state)
    except KeyboardInterrupt:
        stopped = True
    return [watch for watch in watches if watch.kept], stopped
