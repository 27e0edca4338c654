"""B-splines: hills that overlap, of which each place of a grid is under few; a curve is a sum of them.

Shapes: B points, n inputs, K knots, order k; basis j of input i is [:, j, i], so that what is computed alike lies side
by side.
"""

import torch
import torch.nn.functional as F

CHUNK = 2**17  # numbers that a core's own cache holds, beside as many more that are being made from them


def extended(grid, order):
    """Knots (n, G + 1) of the cells -> (n, G + 1 + 2k): as wide as the mean cell, k more on each side.

    Every place of the grid then has k + 1 bases that are not 0: [0, 1, 2], order 1 -> [-1, 0, 1, 2, 3].
    """
    step = (grid[:, -1:] - grid[:, :1]) / (grid.shape[1] - 1)
    further = step * torch.arange(1, order + 1, dtype=grid.dtype, device=grid.device)
    return torch.cat([grid[:, :1] - further.flip(1), grid, grid[:, -1:] + further], 1)


def bases(x, knots, order):
    """x (B, n), knots (n, K) -> all B-splines of these knots (B, K - order - 1, n); only k + 1 of them are computed.

    Cox 1972 and de Boor 1972; the scheme is de Boor 1978, "A Practical Guide to Splines", chapter X, algorithm BSPLVB.
    """
    B, n = x.shape
    count = knots.shape[1] - order - 1
    first, last = knots[:, 0], knots[:, -1]
    inside = (x >= first) & (x <= last)
    # at both ends some of the k + 1 bases that live in a cell begin outside: give them knots, and drop them at the end
    padded = extended(knots, order)
    cell = torch.searchsorted(padded, x.detach().T.contiguous(), right=True).T - 1
    cell = cell.clamp(order, padded.shape[1] - order - 2)  # padded[cell] <= x < padded[cell + 1]
    flat, row = padded.reshape(-1), torch.arange(n, device=x.device) * padded.shape[1]
    knot = {i: flat[cell + row + i] for i in range(1 - order, order + 1)} if order else {}
    values = [torch.ones_like(x)]  # of order 0: 1 in the cell
    for d in range(1, order + 1):
        # B_i,d = (x - t_i) / (t_i+d - t_i) B_i,d-1 + (t_i+d+1 - x) / (t_i+d+1 - t_i+1) B_i+1,d-1
        rising, new = torch.zeros_like(x), []
        for r, value in enumerate(values):
            left, right = knot[r + 1 - d], knot[r + 1]
            share = value / (right - left)
            new.append(rising + (right - x) * share)
            rising = (x - left) * share
        values = [*new, rising]
    values = torch.stack(values, 1) * inside[:, None]  # (B, k + 1, n)
    places = cell[:, None] + torch.arange(-order, 1, device=x.device)[:, None]
    placed = x.new_zeros(B, count + 2 * order, n).scatter(1, places, values)
    return placed[:, order : order + count]


def slopes(x, knots, order):
    """The derivatives of `bases`: B'_i,k = k (B_i,k-1 / (t_i+k - t_i) - B_i+1,k-1 / (t_i+k+1 - t_i+1))."""
    lower = bases(x, knots, order - 1) * (order / (knots[:, order:] - knots[:, :-order])).T
    return lower[:, :-1] - lower[:, 1:]


def evenly(knots):
    """What the closed form needs of uniform knots (n, K): the first, the width of a cell, how many bases."""
    return knots[:, 0], (knots[:, -1] - knots[:, 0]) / (knots.shape[1] - 1), knots.shape[1] - 4


def cubic_places(x, first, step, count):
    """How far x (B, n) is from the middle of each basis of a uniform grid, in cells: (B, count, n).

    `first` (n,) is the first knot of each input, `step` (n,) the width of its cells.
    """
    middles = torch.arange(2, count + 2, dtype=x.dtype, device=x.device)[:, None]
    return ((x - first) / step)[:, None] - middles


def cubic_bases(x, first, step, count):
    """The same as `bases` of order 3 where all cells are alike, in closed form: every basis is one curve, moved.

    B(u) = ((2 - |u|)+^3 - 4 (1 - |u|)+^3) / 6. Schoenberg 1946, "Contributions to the problem of approximation".
    """
    hill = 2 - cubic_places(x, first, step, count).abs()
    return (hill.relu() ** 3 - 4 * (hill - 1).relu() ** 3) / 6


def cubic_features(x, first, step, count, dtype):
    """The same as `features` with `cubic_bases`, flat, (B, (count + 1) n): torch.compile makes one loop of it.

    That loop reads each x once and writes all its features, rounded to `dtype` only at the end, after the closed form.
    """
    places = (x - first) / step

    def basis(middle):
        hill = 2 - (places - middle).abs()
        whole, top = hill.relu(), (hill - 1).relu()
        return (whole * whole * whole - 4 * top * top * top) / 6

    each = [basis(middle) for middle in range(2, count + 2)] + [F.silu(x)]
    return torch.cat([feature.to(dtype) for feature in each], 1)


def cubic_slopes(x, first, step, count):
    """The derivatives of `cubic_bases`: B'(u) = -sign(u) ((2 - |u|)+^2 / 2 - 2 (1 - |u|)+^2)."""
    u = cubic_places(x, first, step, count)
    hill = 2 - u.abs()
    return u.sign() * (2 * (hill - 1).relu() ** 2 - hill.relu() ** 2 / 2) / step


def features(x, knots, order, uniform):
    """x (B, n) -> (B, G + k + 1, n): the bases, and silu(x) behind them."""
    splines = cubic_bases(x, *evenly(knots)) if uniform and order == 3 else bases(x, knots, order)
    return torch.cat([splines, F.silu(x)[:, None]], 1)


def feature_slopes(x, knots, order, uniform):
    """The derivatives of `features`."""
    splines = cubic_slopes(x, *evenly(knots)) if uniform and order == 3 else slopes(x, knots, order)
    s = x.sigmoid()
    return torch.cat([splines, (s * (1 + x * (1 - s)))[:, None]], 1)


class FastFeatures(torch.autograd.Function):
    """The same as `features`; keeps x alone for the backward pass, and works on as many rows as the cache holds."""

    generate_vmap_rule = True  # for torch.func.jacrev

    @staticmethod
    def forward(x, knots, order, uniform):
        if not (uniform and order == 3):
            return features(x, knots, order, uniform)
        n = x.shape[1]
        first, step, count = evenly(knots)
        # each number is seen once for each line below: as few lines as can be, in place. The 1/6 is in the unit
        unit = 6 ** (-1 / 3)
        places = (x - first) * (unit / step)
        middles = torch.arange(2, count + 2, dtype=x.dtype, device=x.device)[:, None] * unit
        two = torch.full((), 2 * unit, dtype=x.dtype, device=x.device)
        result = x.new_empty(len(x), count + 1, n)
        rows = max(1, CHUNK // max(1, count * n))
        inner = x.new_empty(min(rows, len(x)), count, n)
        for i in range(0, len(x), rows):
            hill = result[i : i + rows, :count]
            top = inner[: len(hill)]
            torch.sub(places[i : i + rows, None], middles, out=hill)
            torch.sub(two, hill.abs_(), out=hill).relu_()
            torch.sub(hill, unit, out=top).relu_().pow_(3)
            hill.pow_(3).sub_(top, alpha=4)
        torch.sigmoid(x, out=result[:, count]).mul_(x)  # silu
        return result

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, knots, ctx.order, ctx.uniform = inputs
        ctx.save_for_backward(x, knots)

    @staticmethod
    def backward(ctx, d_features):
        x, knots = ctx.saved_tensors
        rows = max(1, CHUNK // max(1, d_features[0].numel()))
        pieces = [(d * feature_slopes(part, knots, ctx.order, ctx.uniform)).sum(1)
                  for d, part in zip(d_features.split(rows), x.split(rows))]
        return torch.cat(pieces), None, None, None
