"""Functions to learn, by name: those of the KAN paper, equations of Feynman's, and some that do not suit a KAN."""

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

PI = math.pi
HALF, TURN = (0.0, 1.0), (0.0, 2 * PI)
ONE = (-1.0, 1.0)


@dataclass(frozen=True)
class Target:
    """A function of `len(ranges)` inputs, each from its range; `function` takes a column (B,) for each input."""

    formula: str
    ranges: list
    function: Callable | None  # None: there is no formula
    noise: float = 0.0  # deviation of what is added to the training data
    classes: bool = False  # y is the class, 0 or 1

    @property
    def inputs(self):
        return len(self.ranges)


def bessel(z):
    """J0(z) for |z| <= 20, to the last digits: the mean of cos(z sin t) over half a turn; torch's has only six."""
    t = (torch.arange(64, dtype=z.dtype, device=z.device) + 0.5) * PI / 64
    return (z[:, None] * t.sin()).cos().mean(1)


def bumps(x, y):
    """Forty hills and valleys at places that have no order: no sum of few functions of one number makes them."""
    random = np.random.default_rng(6)
    places, heights = random.uniform(-1, 1, (40, 2)), random.uniform(-1, 1, 40)
    return sum(height * ((-((x - a) ** 2) - (y - b) ** 2) / 0.02).exp() for (a, b), height in zip(places, heights))


# from Liu et al. 2024, "KAN: Kolmogorov-Arnold Networks": section 3.1, and table 2 (Feynman's equations, from Udrescu
# and Tegmark 2020, "AI Feynman", units dropped), for which the ranges are those of the paper's code where it has them
TARGETS = {
    "bessel": Target("J0(20 x)", [ONE], lambda x: bessel(20 * x)),
    "exp_sin": Target("exp(sin(pi x) + y^2)", [ONE] * 2, lambda x, y: (torch.sin(PI * x) + y**2).exp()),
    "product": Target("x y", [ONE] * 2, lambda x, y: x * y),
    "four": Target("exp((sin(pi (x1^2 + x2^2)) + sin(pi (x3^2 + x4^2))) / 2)", [ONE] * 4, lambda a, b, c, d: (
        (torch.sin(PI * (a**2 + b**2)) + torch.sin(PI * (c**2 + d**2))) / 2).exp()),
    "hundred": Target("exp(mean of sin(pi xi / 2)^2), i = 1 ... 100", [ONE] * 100, lambda *x: (
        torch.stack(x).mul(PI / 2).sin().square().mean(0).exp())),
    "I.6.2": Target("exp(-t^2 / (2 s^2)) / sqrt(2 pi s^2)", [ONE, (0.5, 2.0)], lambda t, s: (
        (-(t**2) / (2 * s**2)).exp() / (2 * PI * s**2).sqrt())),
    "I.12.11": Target("1 + a sin(t)", [ONE, TURN], lambda a, t: 1 + a * t.sin()),
    "I.16.6": Target("(a + b) / (1 + a b)", [(-0.8, 0.8)] * 2, lambda a, b: (a + b) / (1 + a * b)),
    "I.18.4": Target("(1 + a b) / (1 + a)", [HALF] * 2, lambda a, b: (1 + a * b) / (1 + a)),
    "I.37.4": Target("1 + a + 2 sqrt(a) cos(t)", [(0.1, 1.0), TURN], lambda a, t: 1 + a + 2 * a.sqrt() * t.cos()),
    "III.10.19": Target("sqrt(1 + a^2 + b^2)", [HALF] * 2, lambda a, b: (1 + a**2 + b**2).sqrt()),
    "noisy": Target("exp(sin(pi x) + y^2) and noise of deviation 0.3", [ONE] * 2, lambda x, y: (
        torch.sin(PI * x) + y**2).exp(), noise=0.3),
    "bumps": Target("40 hills and valleys at random places", [ONE] * 2, bumps),
    "moons": Target("which of two half moons, from two coordinates", [(-1.5, 2.5), (-1.0, 1.5)], None, classes=True),
}

# widths of a KAN that can be the formula: those of the paper's section 3.1 (four: of 2.3), and ours for Feynman's, of
# which I.16.6 is tanh(artanh a + artanh b), and a product a b is ((a + b)^2 - (a - b)^2) / 4
SHAPES = {
    "bessel": [1, 1], "exp_sin": [2, 1, 1], "product": [2, 2, 1], "four": [4, 2, 1, 1], "hundred": [100, 1, 1],
    "I.6.2": [2, 2, 1, 1], "I.12.11": [2, 2, 1], "I.16.6": [2, 1, 1], "I.18.4": [2, 3, 1], "I.37.4": [2, 3, 1],
    "III.10.19": [2, 1, 1], "noisy": [2, 1, 1],
}


def rescale(x, ranges):
    """Bring each column of x (B, n) from its range (low, high) to -1 ... 1, where the grids of a new KAN are."""
    low, high = torch.as_tensor(ranges, dtype=x.dtype, device=x.device).T
    return 2 * (x - low) / (high - low) - 1


def unscale(x, ranges):
    """Bring each column of x (B, n) from -1 ... 1 to its range."""
    low, high = torch.as_tensor(ranges, dtype=x.dtype, device=x.device).T
    return low + (x + 1) / 2 * (high - low)


def find(name):
    """The Target of that name. Raises ValueError where there is none."""
    if name not in TARGETS:
        raise ValueError(f"no function '{name}': choose from {', '.join(TARGETS)}, or give the path of a CSV file")
    return TARGETS[name]


def values(name, x):
    """The function at points x (B, n) between -1 and 1, without noise: (B, 1). Raises ValueError without a formula."""
    target = find(name)
    if target.function is None:
        raise ValueError(f"{name} has no formula")
    return target.function(*unscale(x, target.ranges).T)[:, None]


def moons(count, random, noise=0.1):
    """Points (count, 2) on two half circles that reach into each other, and which of them: (count, 1) of 0 and 1."""
    second = np.arange(count) % 2
    angle = random.uniform(0, PI, count)
    x, y = np.cos(angle), np.sin(angle)
    points = np.stack([np.where(second, 1 - x, x), np.where(second, 0.5 - y, y)], 1)
    return points + noise * random.standard_normal((count, 2)), second[:, None].astype(float)


def sample(name, count, seed, noise=True, edges=False):
    """Random points x (count, n) between -1 and 1, and y (count, 1), in float64; the same seed, the same points.

    `noise=False` leaves out what is added to "noisy", for tests. The moons' points may lie a little outside.
    `edges=True` lays the points as Chebyshev's places, -cos(pi u) with each column of u spread evenly, close together
    at the edges. Of random points few lie where a sum of curves is largest, and the last cells of a fine grid behind
    it hold none: the curve is free there, and a test point finds it. The moons have their own places.
    """
    target, random = find(name), np.random.default_rng(seed)
    if target.classes:
        points, y = moons(count, random)
        return rescale(torch.from_numpy(points), target.ranges), torch.from_numpy(y)
    if edges:
        u = [(random.permutation(count) + random.uniform(size=count)) / count for _ in range(target.inputs)]
        x = torch.from_numpy(-np.cos(PI * np.stack(u, 1)))
    else:
        x = torch.from_numpy(random.uniform(-1, 1, (count, target.inputs)))
    y = values(name, x)
    return x, y + target.noise * torch.from_numpy(random.standard_normal((count, 1))) if noise else y


def read_points(path):
    """A CSV file with a first line `x1,...,xn,y` -> x (B, n), y (B, 1) in float64, as they are.

    Raises ValueError that names the line and the cure. `rescale(x, ranges_of(x))` brings x to -1 ... 1.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            lines = list(csv.reader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from error
    names = [name.strip() for name in lines[0]] if lines else []
    expected = [*(f"x{i}" for i in range(1, len(names))), "y"]
    if len(names) < 2 or names != expected:
        raise ValueError(f"{path}, line 1: must be x1,...,xn,y, and is '{','.join(names)}'")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue  # such as one at the end
        if len(line) != len(names):
            raise ValueError(f"{path}, line {number}: has {len(line)} numbers, must have {len(names)}")
        for name, word in zip(names, line):
            try:
                good = math.isfinite(float(word))
            except ValueError:
                good = False
            if not good:
                raise ValueError(f"{path}, line {number}: {name} is '{word}', must be a number")
        rows.append([float(word) for word in line])
    if len(rows) < 2:
        raise ValueError(f"{path}: has {len(rows)} points, must have at least 2")
    table = torch.tensor(rows, dtype=torch.float64)
    return table[:, :-1], table[:, -1:]


def ranges_of(x):
    """The range (low, high) of each column of x (B, n); one that never changes gets a width of 2 around it."""
    return [(low, high) if low < high else (low - 1, high + 1)
            for low, high in zip(x.amin(0).tolist(), x.amax(0).tolist())]
