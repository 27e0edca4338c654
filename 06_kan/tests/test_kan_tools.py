"""What does nothing is left out and nothing else; known functions are found again; the formula computes the same."""

import copy
import math

import pytest
import torch
from functions import sample
from kan_layer import KAN
from kan_tools import LIBRARY, affine_fit, draw, formula, plainer, prune, suggest, written
from least_squares import fit_refining, multi_start

Z = torch.linspace(-1.5, 2.5, 200, dtype=torch.float64)
PYTHON = {name: getattr(torch, name) for name in ("sqrt", "log", "exp", "sin", "tanh")}


@pytest.fixture(scope="module")
def trained():
    """exp(sin(pi x) + y^2), learned by a KAN of one hidden neuron."""
    x, y = sample("exp_sin", 1000, seed=0)

    def fit(model):
        return fit_refining(model, x, y, [5, 5, 5, 5, 10, 10, 20, 20], steps=10)[-1][-1]

    model, errors = multi_start(lambda: KAN([2, 1, 1]).double(), fit, range(5), target=1e-3)
    assert min(errors) < 1e-3
    return model, x, y


def test_pruning_leaves_what_matters(trained):
    """Neurons that are put beside the trained ones and give nothing, or that nothing listens to, go."""
    model, x, _ = trained
    wide = KAN([2, 4, 1], model.grid_size).double()
    with torch.no_grad():
        for layer, other in zip(wide.layers, model.layers):
            layer.grid[:] = other.grid if layer.in_size == 2 else other.grid.repeat(4, 1)
            layer.notice_uniform()
        wide.layers[0].weight[2] = model.layers[0].weight[0]
        wide.layers[0].weight[3] = 1e-6  # hears hardly anything
        wide.layers[1].weight.zero_()  # of neurons 0 and 1 nothing is heard
        wide.layers[1].weight[:, :, 2] = model.layers[1].weight[:, :, 0]
    small = prune(wide, x)
    assert small.widths == [2, 1, 1] and torch.allclose(small(x), model(x), atol=1e-4)
    assert torch.allclose(small.layers[0].weight, model.layers[0].weight)
    assert wide.widths == [2, 4, 1], "the one that is given must stay"
    assert prune(wide, x, threshold=2.0).widths == [2, 1, 1], "a layer can't be empty"


def test_pruning_silences_edges_that_give_nothing(trained):
    model, x, _ = trained
    x = torch.cat([x, torch.rand(len(x), 1).double()], 1)
    wide = KAN([3, 1, 1], model.grid_size).double()
    with torch.no_grad():
        wide.layers[0].grid[:2] = model.layers[0].grid
        wide.layers[1].grid[:] = model.layers[1].grid
        for layer in wide.layers:
            layer.notice_uniform()
        wide.layers[0].weight[:, :, :2] = model.layers[0].weight
        wide.layers[0].weight[:, :, 2] = 1e-5
        wide.layers[0].weight[:, :-1, 2] += 0.7  # a constant, which moves what is left
        wide.layers[0].weight[:, :-1, 0] -= 0.7
        wide.layers[1].weight[:] = model.layers[1].weight
    small = prune(wide, x)
    assert small.widths == [3, 1, 1] and (small.layers[0].weight[:, :, 2] == 0).all()
    assert small.layers[0].weight[:, :, :2].abs().amin(1).max() > 0
    assert torch.allclose(small(x), model(x[:, :2]), atol=1e-3)


@pytest.mark.parametrize("name", [name for name in LIBRARY if name != "0"])
def test_an_affine_fit_finds_its_own_function(name):
    function, allowed, _ = LIBRARY[name]
    b, c = (0.7, 2.0) if allowed else (1.3, -0.4)
    y = 2.5 * function(b * Z + c) - 0.3
    r2, (a, b, c, d) = affine_fit(name, Z, y)
    found = a * function(b * Z + c) + d
    assert b > 0 or name in ("sqrt", "log")
    assert 0.9999 < r2 <= 1
    assert math.isclose(r2, 1 - ((found - y).square().sum() / (y - y.mean()).square().sum()).item(), abs_tol=1e-6)


@pytest.mark.parametrize("name", [name for name in LIBRARY if name not in ("0", "x")])
@pytest.mark.parametrize("b,c", [(1.3, 4.0), (-1.3, 4.0), (0.7, 2.0)])
def test_plainer_numbers_are_the_same_function(name, b, c):
    function, z = LIBRARY[name][0], torch.linspace(-1, 1, 50, dtype=torch.float64)
    a, b_new, c_new, d = plainer(name, -0.6, b, c, 0.2)
    assert torch.allclose(a * function(b_new * z + c_new) + d, -0.6 * function(b * z + c) + 0.2, atol=1e-12)
    assert name not in ("x^2", "1/x") or b_new == 1
    assert name != "sin" or abs(c_new) <= math.pi / 2
    assert name != "exp" or c_new == 0


def test_r2_of_a_straight_line_is_that_of_the_correlation():
    y = torch.sin(2 * Z)
    r2, (a, b, c, d) = affine_fit("x", Z, y)
    assert math.isclose(r2, torch.corrcoef(torch.stack([Z, y]))[0, 1].item() ** 2)
    assert b == 1 and c == 0 and math.isclose((a * Z + d - y).mean().item(), 0, abs_tol=1e-12)


def test_a_silent_edge_is_0():
    assert affine_fit("0", Z, torch.zeros_like(Z))[0] == 1 and affine_fit("0", Z, Z)[0] == 0


def test_suggestions_know_the_trained_edges(trained):
    model, x, _ = trained
    first = [suggest(model, 0, 0, 0, x)[0], suggest(model, 0, 1, 0, x)[0], suggest(model, 1, 0, 0, x)[0]]
    assert [name for name, *_ in first] == ["sin", "x^2", "exp"]
    assert all(r2 > 0.999 for _, r2, _ in first)
    every = suggest(model, 0, 0, 0, x)
    assert {name for name, *_ in every} == set(LIBRARY)


def evaluated(text, x):
    """What a formula of x1 and x2 says for points x (B, 2)."""
    code = text.replace("^", "**").replace(" (", " * (")
    for name in PYTHON:
        code = code.replace(f" {name}(", f" * {name}(")
    for name in ("x1", "x2"):
        code = code.replace(f" {name}", f" * {name}")
    for sign in "+-":
        code = code.replace(f"{sign} * ", f"{sign} ")
    return eval(code, {**PYTHON, "x1": x[:, 0], "x2": x[:, 1]})


def test_the_formula_computes_what_the_model_does(trained):
    model, x, y = trained
    (text,), worst = formula(model, x, digits=4)
    assert worst > 0.999 and "exp(" in text and "sin(" in text and ")^2" in text
    assert (evaluated(text, x) - y[:, 0]).square().mean().sqrt() < 0.05, text


def test_formulas_are_written_as_one_would():
    assert written("sin", (2.0, math.pi, 0.0, -1.0), "x1") == "2.0 sin(3.14 x1) - 1.0"
    assert written("x", (1.0, 1.0, 0.0, 0.0), "x1") == "x1"
    assert written("x", (-1.0, 1.0, 0.0, 0.5), "x1") == "-x1 + 0.5"
    assert written("x^2", (1.0, -1.0, 0.25, 0.0), "(x1 + x2)") == "(-(x1 + x2) + 0.25)^2"
    assert written("exp", (0.00123, 1.0, 0.0, 1e-9), "x1") == "0.00123 exp(x1)", "a small factor is not nothing"
    assert written("x^2", (1e4, 1.0, 3e-5, 2e-7), "x1", 3, 1e-4, 1e-4) == "10000.0 (x1 + 3e-05)^2 + 2e-07"
    assert written("exp", (0.0, 1.0, 0.0, 3.0), "x1") == "3.0"
    assert written("0", (0.0, 0.0, 0.0, 0.0), "x1") == "0"


@pytest.mark.parametrize("share", [1e-3, 1e-5])
def test_a_small_hidden_neuron_does_not_vanish_from_the_formula(trained, share):
    """The same splines, behind a hidden neuron that is a small share of what it was, and so is the grid behind it."""
    model, x, _ = trained
    small = copy.deepcopy(model)
    with torch.no_grad():
        small.layers[0].weight.mul_(share)
        layer = small.layers[1]
        layer.grid.mul_(share)
        layer.notice_uniform()
        layer.weight[:, -1] = 0  # silu does not scale: its part goes, the splines stay
        expected = small(x)[:, 0]
    (text,), worst = formula(small, x, digits=4)
    assert worst > 0.99 and (evaluated(text, x) - expected).square().mean().sqrt() < 0.1 * expected.std(), text


def test_the_figure_has_every_edge(trained):
    model, x, _ = trained
    figure = draw(model, x)
    insets = figure.axes[1:]
    assert len(insets) == 3 and {text.get_text() for text in figure.axes[0].texts} == {"x1", "x2"}
    drawn = insets[0].lines[0].get_ydata()
    places = torch.from_numpy(insets[0].lines[0].get_xdata().copy())
    expected = model.layers[0].curves(torch.stack([places, places], 1))[:, 0, 0]
    assert torch.allclose(torch.from_numpy(drawn.copy()), expected.detach())
