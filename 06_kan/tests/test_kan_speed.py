"""What makes the KAN fast changes nothing; the KANs that it is measured against are what they are said to be."""

import math

import pytest
import torch
import torch.nn.functional as F
from for_tests import ROOT, oracle, succeed
from kan_layer import KAN, UNROLLED, KANLayer
from peers import PEERS, as_ours, recursive_kan
from splines import cubic_features, evenly, features
from watched_fits import Recipe, Watch, fit_start

# of the real efficient-kan at commit 7b6ce1c, with the weights, the points and the optimizer of the test below
REAL_LOSSES = [0.7522453665733337, 0.7392114400863647, 0.727992594242096]


def waves(count, speed, *shape):
    return torch.sin(torch.arange(count, dtype=torch.float64) * speed).reshape(shape).float()


def test_the_restated_layer_learns_as_the_real_one():
    model, x, y = recursive_kan([3, 4, 2], 5), waves(60, 1.7, 20, 3), torch.arange(20) % 2
    with torch.no_grad():
        weights = [each for layer in model for each in (layer.base_weight, layer.spline_weight, layer.spline_scaler)]
        for i, weight in enumerate(weights):
            weight.copy_(0.5 * waves(weight.numel(), i + 1.0, *weight.shape))
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(math.isclose(*pair, rel_tol=1e-6) for pair in zip(losses, REAL_LOSSES)), losses


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_our_kan_with_a_peers_curves_is_the_peer(name):
    if name != "efficient-kan":
        pytest.importorskip({"pykan": "kan"}.get(name, name))
    torch.manual_seed(0)
    theirs, x = PEERS[name][0]([4, 3, 2], 5), torch.rand(50, 4) * 2 - 1
    try:
        expected = theirs(x)
    except RuntimeError:
        pytest.skip(f"{name} wants a C++ compiler")
    found = as_ours(name, theirs, [4, 3, 2], 5)(x)
    assert (found - expected).abs().max() < (1e-3 if name == "flashkan" else 1e-5)


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_the_form_for_the_compiler_equals_scipy(dtype, tolerance):
    layer = KANLayer(2, 1, 7, grid_range=(-2, 1)).to(dtype)
    x = torch.rand(300, 2, dtype=dtype) * 3 - 2
    found = cubic_features(x, *evenly(layer.knots), dtype)
    assert found.dtype == dtype and torch.allclose(found, features(x, layer.knots, 3, True).flatten(1), atol=tolerance)
    knots = (-2 + (torch.arange(14, dtype=torch.float64) - 3) * 3 / 7).numpy()
    exact = oracle("scipy.interpolate").BSpline.design_matrix(x[:, 1].double().numpy(), knots, 3).toarray()
    assert (found.unflatten(1, (-1, 2))[:, :-1, 1].double() - torch.from_numpy(exact)).abs().max() < tolerance


@pytest.mark.parametrize("grid_size", [5, UNROLLED + 1])
@pytest.mark.parametrize("rounded", [False, True])
def test_what_a_compiler_sees_computes_the_same(grid_size, rounded, monkeypatch):
    """Forward and backward, with a far finer grid too, in float32 and where autocast rounds to bfloat16."""
    torch.manual_seed(0)
    model, x = KAN([3, 4, 2], grid_size), (torch.rand(50, 3) * 2 - 1).requires_grad_()

    def gradients():
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            y = model(x)
        assert y.dtype == (torch.bfloat16 if rounded else torch.float32)
        return torch.autograd.grad(y.float().square().sum(), [x, *model.parameters()])

    expected = gradients()
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    for found, one in zip(gradients(), expected):
        assert (found - one).norm() < (0.02 if rounded else 1e-5) * one.norm()


def test_a_place_in_a_cell_is_not_rounded():
    """Only the values of the bases are: rounded inputs would be wrong by up to 2 ** -9 of the range."""
    layer = KANLayer(1, 1, 5)
    x = torch.linspace(-1, 1, 1001)[:, None]
    found = cubic_features(x, *evenly(layer.knots), torch.bfloat16)
    assert torch.equal(found, cubic_features(x, *evenly(layer.knots), torch.float32).bfloat16())


def test_a_kan_that_has_diverged_says_so():
    layer = KANLayer(2, 3)
    with torch.no_grad():
        layer.weight[0, 0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="learning rate"):
        layer.refine(10)
    sound = KANLayer(2, 3)
    with pytest.raises(FloatingPointError):
        sound.update_grid(torch.tensor([[0.0, 0.0], [math.inf, 1.0]]))
    assert torch.isfinite(sound.grid).all() and torch.isfinite(sound.weight).all(), "it must stay as it was"


@pytest.mark.parametrize("optimizer", ["adamw", "lm"])
def test_a_start_that_diverges_is_a_failed_one(optimizer):
    config = {"widths": [2, 2, 1], "grid_size": 5}
    state = {name: value.double() for name, value in KAN(**config).state_dict().items()}
    state["layers.1.weight"] = torch.full_like(state["layers.1.weight"], math.nan)
    watch, x = Watch(config), torch.rand(50, 2, dtype=torch.float64)
    fit_start(watch, "kan", x, x[:, :1] * x[:, 1:], Recipe(optimizer, [5, 10], 3), 0, state)
    assert watch.kept is None


@pytest.mark.slow
def test_the_benchmark_runs_without_a_compiler(tmp_path):
    before = (ROOT / "06_kan/README.md").read_bytes()
    printed = succeed("06_kan/benchmark.py", "--rounds", 1, "--print_only", cwd=tmp_path, CXX="missing",
                      TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert printed.count("no working C++ compiler") == 1
    assert "Slower per step" in printed and "(MLP)" in printed and "(efficient-kan)" in printed
    assert "compiled" not in printed.split("| what")[1]
    assert (ROOT / "06_kan/README.md").read_bytes() == before
