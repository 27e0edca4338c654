"""The Jacobian in closed form is autograd's; Levenberg-Marquardt, L-BFGS and several beginnings fit what they can."""

import math

import numpy as np
import pytest
import torch
from for_tests import oracle
from functions import sample
from kan_layer import KAN
from least_squares import (
    fit_refining,
    jacobian,
    lbfgs,
    levenberg_marquardt,
    multi_start,
    normal_equations,
    parts_of_mlp,
    rmse,
)
from mlp import MLP


def automatic(model, x):
    """torch.func's Jacobian of all parameters, one behind the other: (B, d, P)."""
    parameters = dict(model.named_parameters())

    def output(parameters):
        return torch.func.functional_call(model, parameters, (x,))

    pieces = torch.func.jacrev(output)(parameters)
    return torch.cat([pieces[name].flatten(2) for name in parameters], 2)


def networks():
    torch.manual_seed(0)
    x = (torch.rand(30, 3) * 2 - 1).double()
    uneven = KAN([3, 4, 2]).double()
    uneven.update_grids(x, grid_eps=0.2)
    yield x, uneven
    for model in (KAN([3, 2, 3, 2]), KAN([3, 4, 1], order=2), KAN([3, 2]), MLP([3, 5, 4, 2]), MLP([3, 4, 1], "tanh")):
        yield x, model.double()


def test_the_jacobian_equals_autograd():
    for x, model in networks():
        output, J = jacobian(model, x)
        assert torch.allclose(output, model(x), atol=1e-13)
        assert J.shape == (30, output.shape[1], model.parameter_count())
        assert torch.allclose(J, automatic(model, x), atol=1e-12), "is the slope that of the layer, in order m, c, n?"


def test_normal_equations_are_those_of_the_jacobian(monkeypatch):
    for x, model in networks():
        y = torch.randn_like(model(x))
        J, r = automatic(model, x).flatten(0, 1), (model(x) - y).flatten()
        monkeypatch.setattr("least_squares.CHUNK", 7 * J.shape[1] * y.shape[1])  # pieces of 7 points
        square, gradient, total = normal_equations(model, x, y)
        assert torch.allclose(square, J.T @ J) and torch.allclose(gradient, J.T @ r)
        assert math.isclose(total, r.square().sum().item())


def test_one_undamped_step_solves_what_is_linear():
    """A KAN of one layer is linear in its parameters, and numpy knows the least squares of that."""
    torch.manual_seed(0)
    model, x = KAN([2, 1]).double(), torch.rand(100, 2).double() * 2 - 1
    y = torch.sin(3 * x[:, :1]) * x[:, 1:]
    J = jacobian(model, x)[1][:, 0].numpy()
    best = J @ np.linalg.lstsq(J, y.numpy(), rcond=None)[0]
    history = levenberg_marquardt(model, x, y, steps=20, damping=1e-10)
    assert history[1] < history[0]
    assert np.allclose(model(x).detach(), best, atol=1e-7)


def test_it_ends_where_scipy_ends():
    torch.manual_seed(0)
    x = torch.rand(60, 1).double() * 2 - 1
    y = torch.sin(3 * x)
    model = MLP([1, 3, 1], "tanh").double()
    start = torch.nn.utils.parameters_to_vector(model.parameters()).detach()

    def residuals(vector):
        torch.nn.utils.vector_to_parameters(torch.from_numpy(vector), model.parameters())
        return (model(x) - y).detach().flatten().numpy()

    theirs = oracle("scipy.optimize").least_squares(residuals, start.numpy(), method="lm", max_nfev=20000)
    torch.nn.utils.vector_to_parameters(start, model.parameters())
    history = levenberg_marquardt(model, x, y, steps=500)
    assert history[-1] < 1.01 * math.sqrt(2 * theirs.cost / 60)
    assert history == sorted(history, reverse=True), "a step that is worse must not be taken"
    assert math.isclose(rmse(model, x, y), history[-1], rel_tol=1e-6), "are the last weights those of the best step?"


@pytest.mark.slow
def test_a_kan_becomes_exp_sin():
    x, y = sample("exp_sin", 2000, seed=0)
    test = sample("exp_sin", 1000, seed=1)
    grid_sizes, errors = [5, 5, 5, 5, 10, 10, 20, 40, 80], []
    for seed in range(5):  # some beginnings lead to a place from which nothing gets better
        torch.manual_seed(seed)
        model = KAN([2, 1, 1]).double()
        histories = fit_refining(model, x, y, grid_sizes, steps=10, target=1e-7)
        assert model.grid_size == 80 and len(histories) == 9
        errors.append(rmse(model, *test))
    assert min(errors) < 3e-7, "do the ranges follow what reaches the layers?"


def test_parameters_that_nothing_reaches_do_no_harm():
    torch.manual_seed(0)
    model, x = KAN([1, 1], grid_size=20).double(), torch.rand(50, 1).double() * 0.2
    history = levenberg_marquardt(model, x, x**2)
    assert history[-1] < 1e-6 and all(torch.isfinite(weight).all() for weight in model.parameters())


def test_lbfgs_fits_and_ends_at_its_target():
    torch.manual_seed(0)
    x, y = sample("product", 200, seed=0)
    history = lbfgs(MLP([2, 8, 1]).double(), x, y, steps=200, target=1e-2)
    assert history[-1] <= 1e-2 < history[-2] and len(history) < 201
    model = KAN([2, 2, 1]).double()
    history = lbfgs(model, x, y, steps=40)
    assert history[-1] < history[0] / 10 and math.isclose(history[-1], rmse(model, x, y))


@pytest.mark.parametrize("method", [levenberg_marquardt, lbfgs])
def test_each_step_is_told_and_may_be_the_last(method):
    """What on_step hears is the error of the model as it then stands; at a share of 1 the fit ends."""
    torch.manual_seed(0)
    x, y = sample("product", 100, seed=0)
    model, told = MLP([2, 4, 1]).double(), []

    def on_step(error, steps, gradients):
        assert math.isclose(error, rmse(model, x, y)), "is the model that of a step that was not taken?"
        told.append((error, steps, gradients))
        return len(told) / 8

    history = method(model, x, y, steps=100, on_step=on_step)
    assert len(told) == 8 and sum(steps for _, steps, _ in told) == 7 and told[0][1] == 0
    assert list(dict.fromkeys(error for error, _, _ in told)) == history


def test_several_beginnings():
    def build():
        return torch.rand(1).item()

    errors = {}
    best, found = multi_start(build, lambda model: errors.setdefault(model, model), range(6))
    assert best == min(found) and found == list(errors) and len(set(found)) == 6
    assert len(multi_start(build, lambda model: model, range(6), target=2.0)[1]) == 1
    assert multi_start(build, lambda model: math.nan, range(2))[1] == [math.inf, math.inf]


def test_single_precision_is_told():
    with pytest.raises(ValueError, match="float64"):
        levenberg_marquardt(MLP([1, 2, 1]), torch.zeros(3, 1), torch.zeros(3, 1))


def test_an_mlp_without_hidden_layers_has_a_jacobian_too():
    x, model = torch.rand(5, 2).double(), MLP([2, 3]).double()
    output, parts = parts_of_mlp(model, x)
    assert len(parts) == 1 and torch.allclose(output, model(x))
    assert torch.allclose(jacobian(model, x)[1], automatic(model, x))
