"""Bases equal scipy's; fast equals plain, forward and backward; changes of the grid keep the curves."""

import math

import numpy as np
import pytest
import torch
from for_tests import oracle
from kan_layer import KAN, KANLayer
from splines import FastFeatures, bases, cubic_bases, cubic_slopes, evenly, extended, features, slopes

UNEVEN = [-1.0, -0.9, -0.3, 0.0, 0.05, 0.6, 1.0]


def double(*sizes, **settings):
    torch.manual_seed(0)
    return KANLayer(*sizes, **settings).double()


def uneven(n=1, order=3):
    return extended(torch.tensor([UNEVEN], dtype=torch.float64).repeat(n, 1), order)


def design(x, knots, order):
    """scipy's bases, (B, count)."""
    matrix = oracle("scipy.interpolate").BSpline.design_matrix(x.numpy(), knots.numpy(), order)
    return torch.from_numpy(matrix.toarray())


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_bases_equal_scipy_on_any_grid(order):
    even = extended(torch.linspace(-1, 1, 6, dtype=torch.float64)[None], order)
    for knots in (even, uneven(order=order)):
        x = torch.cat([torch.linspace(-1, 1, 501, dtype=torch.float64), knots[0, order:-order]])
        found = bases(x[:, None], knots, order)[:, :, 0]
        assert (found - design(x, knots[0], order)).abs().max() < 1e-12
        assert (found.sum(1) - 1).abs().max() < 1e-13, "do they sum to 1 at both ends too?"
        assert ((found > 0).sum(1) <= order + 1).all()


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("low,high,grid_size", [(-1, 1, 5), (-3, 0.5, 5), (-1, 1, 10)])
def test_the_closed_form_equals_scipy(dtype, tolerance, low, high, grid_size):
    layer = KANLayer(1, 1, grid_size, grid_range=(low, high)).to(dtype)
    x = torch.linspace(low, high, 1001, dtype=dtype)[:, None]
    exact = extended(torch.linspace(low, high, grid_size + 1, dtype=torch.float64)[None], 3)
    expected = design(x[:, 0].double().clamp(low, high), exact[0], 3)
    for compute in (FastFeatures.apply, features):
        found = compute(x, layer.knots, 3, True)
        assert found.dtype == dtype
        assert (found[:, :-1, 0].double() - expected).abs().max() < tolerance
        assert (found[:, :-1].sum(1) - 1).abs().max() < tolerance
        assert torch.allclose(found[:, -1], torch.nn.functional.silu(x), atol=tolerance), "silu stands last"


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_outside_of_the_grid_the_bases_run_out(order):
    """As in scipy's basis elements, which are 0 beyond their own knots."""
    BSpline = oracle("scipy.interpolate").BSpline
    for knots in (extended(torch.linspace(-1, 1, 6, dtype=torch.float64)[None], order), uneven(order=order)):
        x = torch.linspace(-4, 4, 801, dtype=torch.float64) + 1e-4
        found = bases(x[:, None], knots, order)[:, :, 0]
        for i in range(found.shape[1]):
            element = BSpline.basis_element(knots[0, i : i + order + 2].numpy(), extrapolate=False)
            expected = torch.from_numpy(np.nan_to_num(element(x.numpy())))
            assert torch.allclose(found[:, i], expected, atol=1e-12)
    if order == 3:
        knots = extended(torch.linspace(-1, 1, 6, dtype=torch.float64)[None], 3)
        assert torch.allclose(cubic_bases(x[:, None], *evenly(knots)), bases(x[:, None], knots, 3), atol=1e-13)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_slopes_equal_scipys_derivatives(order):
    knots = uneven(order=order)
    x = torch.linspace(-0.999, 0.999, 400, dtype=torch.float64)
    BSpline = oracle("scipy.interpolate").BSpline
    found = slopes(x[:, None], knots, order)[:, :, 0]
    for i in range(found.shape[1]):
        one = BSpline(knots[0].numpy(), np.eye(found.shape[1])[i], order).derivative()
        assert torch.allclose(found[:, i], torch.from_numpy(one(x.numpy())), atol=1e-10)
    if order == 3:
        even = extended(torch.linspace(-1, 1, 6, dtype=torch.float64)[None], 3)
        assert torch.allclose(cubic_slopes(2 * x[:, None], *evenly(even)), slopes(2 * x[:, None], even, 3), atol=1e-12)


@pytest.mark.parametrize("order,uniform", [(1, True), (2, True), (3, True), (3, False), (4, False)])
def test_the_fast_form_equals_the_plain_one(order, uniform):
    """Also over more rows than one piece, and in what autograd makes of the plain one."""
    torch.manual_seed(0)
    n, B = (300, 150) if order == 3 else (3, 50)
    grid = torch.linspace(-1, 1, 7, dtype=torch.float64) if uniform else torch.tensor(UNEVEN, dtype=torch.float64)
    knots = extended(grid.repeat(n, 1) * torch.rand(n, 1).double(), order)
    x = (torch.randn(B, n) * 0.7).double().requires_grad_()
    fast, plain = FastFeatures.apply(x, knots, order, uniform), features(x, knots, order, uniform)
    assert torch.allclose(fast, plain, atol=1e-12)
    seed = torch.randn_like(plain)
    gradients = [torch.autograd.grad(form, x, seed)[0] for form in (fast, plain)]
    assert torch.allclose(*gradients, atol=1e-9), "is the slope that of each basis?"
    assert torch.autograd.gradcheck(lambda x: FastFeatures.apply(x, knots[:3], order, uniform), x[:4, :3])


def test_a_layer_is_the_formula_of_the_paper():
    """phi(x) = w_b silu(x) + sum c_i B_i(x) for each edge, summed over the inputs."""
    layer, x = double(3, 2), torch.rand(20, 3).double() * 2 - 1
    BSpline = oracle("scipy.interpolate").BSpline
    for j in range(2):
        total = 0
        for i in range(3):
            weight = layer.weight[j, :, i].detach()
            spline = BSpline(layer.knots[i].numpy(), weight[:-1].numpy(), 3)
            edge = weight[-1] * torch.nn.functional.silu(x[:, i]) + torch.from_numpy(spline(x[:, i].numpy()))
            assert torch.allclose(layer.curves(x)[:, j, i], edge, atol=1e-12)
            total = total + edge
        assert torch.allclose(layer(x)[:, j], total, atol=1e-12)
    assert layer(x.view(4, 5, 3)).shape == (4, 5, 2)


def test_parameters_are_counted_and_bad_sizes_are_told():
    model = KAN([784, 64, 10])
    assert model.parameter_count() == (784 * 64 + 64 * 10) * 9
    assert model(torch.zeros(2, 784)).shape == (2, 10)
    for settings in ({"grid_size": 0}, {"order": 0}, {"grid_range": (1, 1)}):
        with pytest.raises(ValueError, match="at least 1"):
            KANLayer(1, 1, **settings)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("even", [True, False])
def test_nested_refinement_is_exact(order, even):
    layer = double(3, 2, order=order)
    if not even:
        layer.update_grid(torch.randn(200, 3).double() * 0.3, grid_eps=0.1)
    low, high = layer.grid[:, 0], layer.grid[:, -1]
    x = low + (high - low) * torch.rand(300, 3).double()
    before, knots = layer(x), layer.grid
    layer.refine(10)
    assert layer.weight.shape == (2, 10 + order + 1, 3) and torch.allclose(layer.grid[:, ::2], knots, atol=1e-15)
    assert layer.uniform == even
    assert (layer(x) - before).abs().max() < 6e-13, "is every old knot a new one?"


def test_other_refinement_is_close():
    layer, x = double(2, 2, grid_size=20), torch.rand(300, 2).double() * 2 - 1
    with torch.no_grad():
        grid = layer.grid[0]
        smooth = torch.sin(torch.linspace(-3, 3, 23)).double()
        layer.weight[:, :-1] = smooth[:, None]
    before = layer(x)
    layer.refine(33)
    assert len(grid) == 21 and (layer(x) - before).abs().max() < 1e-4


def test_a_new_grid_is_where_the_inputs_are():
    torch.manual_seed(0)
    x = torch.randn(2000, 2).double() * torch.tensor([0.1, 3.0]) + torch.tensor([0.5, 0.0])
    layer = double(2, 1)
    layer.update_grid(x, margin=0)
    assert layer.uniform and torch.allclose(layer.grid[:, [0, -1]].T, torch.stack([x.amin(0), x.amax(0)]))
    layer.update_grid(x, grid_eps=1e-9)
    expected = np.quantile(x.numpy(), np.linspace(0, 1, 6), axis=0).T[:, 1:-1]
    assert not layer.uniform and np.allclose(layer.grid[:, 1:-1], expected, atol=1e-6), "does 0 mean quantiles?"
    kept = layer.grid.clone()
    layer.update_grid(torch.ones(10, 2).double())
    assert torch.equal(layer.grid, kept), "inputs that are all the same have no range"
    with pytest.raises(ValueError, match="above 0"):
        layer.update_grid(x, grid_eps=0)


@pytest.mark.parametrize("grid_eps", [1.0, 0.02])
def test_a_new_grid_keeps_the_curves(grid_eps):
    torch.manual_seed(0)
    model, x = KAN([2, 3, 1], grid_size=40).double(), torch.rand(500, 2).double() * 1.6 - 0.8
    with torch.no_grad():
        for layer in model.layers:  # smooth curves, which any grid can follow
            layer.weight[:, :-1] = torch.sin(torch.linspace(-2, 2, 43))[:, None] * torch.randn(1, 1, layer.in_size)
            layer.weight *= 0.2
    before = model(x)
    model.update_grids(x, grid_eps)
    assert (model(x) - before).abs().max() < 1e-3 * before.abs().max()


def test_a_refitted_range_gives_back_the_gradient():
    """Activations beyond the last knot move no spline; with the grid moved to them they do."""
    layer, x = double(1, 1), torch.linspace(4, 6, 50, dtype=torch.float64)[:, None]
    layer(x).sum().backward()
    assert layer.weight.grad[:, :-1].abs().max() == 0
    layer.weight.grad = None
    before, parameter = layer(x), layer.weight
    layer.update_grid(x)
    assert layer.weight is parameter, "an optimizer would lose it"
    assert torch.allclose(layer(x), before, atol=1e-12)
    layer(x).sum().backward()
    assert (layer.weight.grad[:, :-1].abs() > 0).all()


def test_a_grid_survives_its_checkpoint():
    layer, other, x = double(2, 1), double(2, 1), torch.randn(100, 2).double()
    layer.update_grid(x, grid_eps=0.1)
    other.load_state_dict(layer.state_dict())
    assert not other.uniform and torch.equal(layer(x), other(x))
    other.load_state_dict(double(2, 1).state_dict())
    assert other.uniform


def test_regularization_is_that_of_the_paper():
    torch.manual_seed(0)
    model, x = KAN([3, 2, 1]).double(), torch.rand(50, 3).double()
    expected = 0
    for layer in model.layers:
        sizes = layer.curves(x).abs().mean(0)
        shares = sizes / sizes.sum()
        expected += 0.3 * sizes.sum() - 0.7 * sum(p * math.log(p) for p in shares.flatten().tolist())
        x_next = layer(x)
        assert torch.allclose(layer.curves(x).sum(2), x_next)
        x = x_next
    torch.manual_seed(0)
    model, x = KAN([3, 2, 1]).double(), torch.rand(50, 3).double()
    found = model.regularization(x, l1=0.3, entropy=0.7)
    assert torch.allclose(found, expected)
    found.backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in model.layers)
    with torch.no_grad():
        for layer in model.layers:
            layer.weight.zero_()
    assert model.regularization(x) == 0, "0 log 0 is 0"


def test_bfloat16_does_not_lose_the_place_in_a_cell():
    torch.manual_seed(0)
    model, x = KAN([20, 10, 5]), torch.rand(200, 20) * 2 - 1
    exact = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(x)
    layer, half = model.layers[0], x.bfloat16()
    assert torch.equal(layer.features(half), layer.features(half.float())), "in which precision is the place found?"
    assert rounded.dtype == torch.bfloat16 and (rounded.float() - exact).abs().max() < 0.01 * exact.abs().max()


def test_the_form_for_a_compiler_is_the_same(monkeypatch):
    torch.manual_seed(0)
    model, x = KAN([3, 4, 2]).double(), torch.rand(50, 3).double() * 2 - 1
    model.update_grids(x * 0.7)
    expected = torch.autograd.grad(model(x).square().sum(), model.parameters())
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    found = torch.autograd.grad(model(x).square().sum(), model.parameters())
    assert all(torch.allclose(*pair, atol=1e-12) for pair in zip(found, expected))


def test_it_learns_in_float32_and_under_autocast():
    torch.manual_seed(0)
    x = torch.rand(500, 2) * 2 - 1
    y = (torch.sin(math.pi * x[:, :1]) + x[:, 1:] ** 2).exp()
    model = KAN([2, 3, 1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03, weight_decay=0)
    for step in range(200):
        if step in (20, 60, 100):
            model.update_grids(x)
        with torch.autocast("cpu", torch.bfloat16, enabled=step % 2 == 1):
            loss = (model(x).float() - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(x) - y).square().mean().sqrt() < 0.1
