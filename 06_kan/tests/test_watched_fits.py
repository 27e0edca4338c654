"""What a fit costs, how long it may take, and how it begins."""

import math

import kan_tools
import least_squares
import pytest
import torch
import watched_fits
from functions import sample


def fitted(monkeypatch, kind, config, optimizer, trials):
    """A Watch of one fit, and how often the gradient, or the Jacobian, was really taken."""
    taken = []
    jacobians, backward = least_squares.normal_equations, torch.Tensor.backward
    monkeypatch.setattr(least_squares, "normal_equations", lambda *words: (taken.append(1), jacobians(*words))[1])
    monkeypatch.setattr(torch.Tensor, "backward", lambda *words: (taken.append(1), backward(*words))[1])
    recipe = watched_fits.Recipe(optimizer, [3, 5], 10, trials=trials)
    (watch,), stopped = watched_fits.fit_starts(kind, config, *sample("exp_sin", 200, 0), recipe, [3])
    assert not stopped
    return watch, len(taken)


@pytest.mark.parametrize("optimizer, trials", [("lm", 1), ("lbfgs", 1), ("adamw", 1), ("lm", 2)])
@pytest.mark.parametrize("kind", ["kan", "mlp"])
def test_gradients_are_counted_as_often_as_they_are_taken(monkeypatch, kind, optimizer, trials):
    config = {"kan": {"widths": [2, 1, 1], "grid_size": 3}, "mlp": {"widths": [2, 3, 1]}}[kind]
    watch, taken = fitted(monkeypatch, kind, config, optimizer, trials)
    assert watch.gradients == taken and 0 < watch.steps <= (20 if trials == 1 else 20 + trials * 60)
    assert watch.steps == 20 or optimizer != "adamw"
    steps, gradients, seconds, best = zip(*watch.rows)
    assert steps[-1] == watch.steps and gradients[-1] == watch.gradients
    assert all(list(each) == sorted(each) for each in (steps, gradients, seconds))
    assert math.isclose(min(best), watch.kept.error, rel_tol=0.2) and best[-1] < best[0]


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs", "adamw"])
def test_a_fit_ends_with_its_time(monkeypatch, optimizer):
    """A clock that ticks at each look: of ten ticks each of two grids has about half."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(watched_fits.time, "process_time", lambda: next(ticks))
    recipe = watched_fits.Recipe(optimizer, [3, 5], 10**6, seconds=100)
    (watch,), _ = watched_fits.fit_starts("kan", {"widths": [2, 1, 1], "grid_size": 3},
                                          *sample("exp_sin", 100, 0), recipe, [0])
    assert 80 < watch.rows[-1][2] < 110 and watch.kept.config["grid_size"] == 5


@pytest.mark.slow
def test_the_best_trial_goes_on():
    """Of twelve short fits one leads out of the valleys of this function, in which most starts end."""
    x, y = sample("four", 600, 1)
    recipes = [watched_fits.Recipe("lm", [5, 10], 20, trials=trials) for trials in (1, 12)]
    one, best = (watched_fits.fit_starts("kan", {"widths": [4, 2, 1, 1]}, x, y, recipe, [1])[0][0]
                 for recipe in recipes)
    assert best.kept.error < one.kept.error / 2 and best.steps > 200


def test_curves_that_cost_something_become_few():
    """Of a sum, which needs two edges of six: what the others give beside the largest, with and without the price."""
    x, _ = sample("exp_sin", 200, 0)
    y, others = torch.sin(3 * x[:, :1]) + x[:, 1:], {}
    for sparsity in (0.0, 0.05):
        recipe = watched_fits.Recipe("adamw", [3], 600, 0.03, sparsity=sparsity)
        (watch,), _ = watched_fits.fit_starts("kan", {"widths": [2, 2, 1], "grid_size": 3}, x, y, recipe, [0])
        curves = watch.model.layers[0].curves(x)
        assert watch.kept.error < 0.15 and watch.kept.error == pytest.approx(least_squares.rmse(watch.model, x, y))
        others[sparsity] = kan_tools.shares_of_edges(curves).flatten().sort().values[:2].mean().item()
    assert others[0.05] < others[0.0] / 5
