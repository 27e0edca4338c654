"""The functions are those of the paper, sampled in their ranges; a CSV file is read, or its line is named."""

import numpy as np
import pytest
import torch
from for_tests import oracle
from functions import TARGETS, find, moons, ranges_of, read_points, rescale, sample, unscale, values


def test_bessel_equals_scipy():
    x, y = sample("bessel", 500, seed=0)
    assert np.allclose(y, oracle("scipy.special").jv(0, 20 * x.numpy()), rtol=0, atol=1e-13)


def test_functions_at_points_that_are_known():
    for name, place, value in (
        ("exp_sin", [0.5, 1], np.exp(2)), ("product", [-0.5, 0.5], -0.25), ("four", [0.5, 0.5, 0.5, 0.5], np.e),
        ("hundred", [1] * 100, np.e), ("hundred", [1 / 3] * 100, np.exp(0.25)),
        ("I.6.2", [0, -1], 1 / np.sqrt(np.pi / 2)), ("I.12.11", [1, -0.5], 2), ("I.16.6", [1, 1], 1.6 / 1.64),
        ("I.18.4", [1, 1], 1), ("I.37.4", [1, 0], 0), ("III.10.19", [1, 1], np.sqrt(3)),
    ):
        found = values(name, torch.tensor([place], dtype=torch.float64))
        assert found.shape == (1, 1) and np.isclose(found.item(), value, atol=1e-12), name
    assert sum(name[0] == "I" for name in TARGETS) == 6


@pytest.mark.parametrize("name", TARGETS)
def test_samples_are_repeatable_and_in_range(name):
    x, y = sample(name, 200, seed=3)
    assert x.shape == (200, find(name).inputs) and y.shape == (200, 1) and x.dtype == y.dtype == torch.float64
    assert all(torch.equal(*pair) for pair in zip((x, y), sample(name, 200, seed=3)))
    assert not torch.equal(x, sample(name, 200, seed=4)[0])
    assert torch.isfinite(y).all() and y.std() > 0
    assert x.amin() >= -1.1 and x.amax() <= 1.1 and (x.amin() < -0.5 < 0.5 < x.amax())
    assert torch.allclose(rescale(unscale(x, find(name).ranges), find(name).ranges), x)


def test_noise_is_of_the_training_data_alone():
    x, y = sample("noisy", 4000, seed=0)
    still_x, still_y = sample("noisy", 4000, seed=0, noise=False)
    assert torch.equal(x, still_x) and torch.equal(still_y, values("noisy", x))
    assert abs((y - still_y).std().item() - 0.3) < 0.01 and abs((y - still_y).mean().item()) < 0.02


def test_points_crowd_at_the_edges():
    x, y = sample("exp_sin", 3000, seed=0, edges=True)
    assert x.shape == (3000, 2) and torch.equal(y, values("exp_sin", x)) and x.abs().max() <= 1
    # a third of -cos(pi u) is beyond cos(pi / 6)
    assert abs((x.abs() > np.cos(np.pi / 6)).double().mean().item() - 1 / 3) < 0.01
    assert abs(torch.corrcoef(x.T)[0, 1]) < 0.1


def test_moons_are_half_circles():
    points, classes = moons(500, np.random.default_rng(0), noise=0)
    for which, middle, sign in ((0, (0, 0), 1), (1, (1, 0.5), -1)):
        from_middle = points[classes[:, 0] == which] - middle
        assert len(from_middle) == 250 and np.allclose((from_middle**2).sum(1), 1)
        assert (sign * from_middle[:, 1] >= 0).all()


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(ValueError, match="no function 'nothing': choose from bessel, .* CSV file"):
        sample("nothing", 1, 0)


def test_a_csv_file_is_read(tmp_path):
    file = tmp_path / "points.csv"
    file.write_text("\ufeffx1, x2,y\r\n1,2,3\r\n\r\n-1e1, 2,.5\r\n", encoding="utf-8")
    x, y = read_points(file)
    assert x.tolist() == [[1, 2], [-10, 2]] and y.tolist() == [[3], [0.5]]
    assert ranges_of(x) == [(-10, 1), (1, 3)], "a column that never changes has no range"
    assert rescale(x, ranges_of(x)).tolist() == [[1, 0], [-1, 0]]


@pytest.mark.parametrize("text,message", [
    ("", "line 1: must be x1,...,xn,y, and is ''"),
    ("y\n1\n", "line 1: must be"),
    ("x1,x3,y\n1,2,3\n", "line 1: must be x1,...,xn,y, and is 'x1,x3,y'"),
    ("x1,y\n1,2\n1,2,3\n", "line 3: has 3 numbers, must have 2"),
    ("x1,y\n1,2\n\n1,two\n", "line 4: y is 'two', must be a number"),
    ("x1,y\nnan,2\n", "line 2: x1 is 'nan', must be a number"),
    ("x1,y\n1,2\n", "has 1 points, must have at least 2"),
])
def test_bad_lines_are_named(tmp_path, text, message):
    file = tmp_path / "points.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as error:
        read_points(file)
    assert message in str(error.value)


def test_bytes_that_are_no_text_are_told(tmp_path):
    file = tmp_path / "points.csv"
    file.write_bytes(b"x1,y\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="no CSV file in UTF-8"):
        read_points(file)
