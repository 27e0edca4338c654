"""A Kolmogorov-Arnold network: each edge has a curve of its own, each neuron only adds up what comes in.

An edge is phi(x) = w_b silu(x) + w_s sum_i c_i B_i(x) with B-splines B_i. The paper keeps w_s although c can absorb it;
here c has. So a layer is one matrix product: the features B_1(x), ..., B_c(x), silu(x) of all inputs times a weight.
Shapes: B points, n inputs, m outputs, G cells of the grid, order k, G + k bases; feature j of input i is [:, j, i], so
that what is computed alike lies side by side.
"""

import torch
import torch.nn.functional as F
from torch import nn

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


class KANLayer(nn.Module):
    """n inputs -> m outputs, each a sum of n curves. `weight` (m, G + k + 1, n): of each curve c_1, ..., c_G+k, w_b.

    Liu et al. 2024, "KAN: Kolmogorov-Arnold Networks", equations 2.10 to 2.12.
    """

    def __init__(self, in_size, out_size, grid_size=5, order=3, grid_range=(-1, 1)):
        super().__init__()
        if grid_size < 1 or order < 1 or not grid_range[0] < grid_range[1]:
            raise ValueError(f"grid_size {grid_size} and order {order} must be at least 1, and {grid_range} must rise")
        self.in_size, self.out_size, self.grid_size, self.order = in_size, out_size, grid_size, order
        self.register_buffer("grid", torch.linspace(*grid_range, grid_size + 1).repeat(in_size, 1))  # (n, G + 1)
        self.notice_uniform()
        self.weight = nn.Parameter(torch.empty(out_size, grid_size + order + 1, in_size))
        # almost straight at first (the paper's deviation of 0.1, whatever the number of inputs), w_b by Xavier
        nn.init.normal_(self.weight, std=0.1 * in_size**-0.5)
        with torch.no_grad():
            nn.init.xavier_uniform_(self.weight[:, -1])

    def features(self, x):
        """x (B, n) -> (B, G + k + 1, n), in the precision of the grid: bfloat16 would lose the place in a cell."""
        x = x.to(self.grid.dtype)
        return FastFeatures.apply(x, self.knots, self.order, self.uniform)

    def feature_slopes(self, x):
        """x (B, n) -> how the features change with x, (B, G + k + 1, n)."""
        return feature_slopes(x, self.knots, self.order, self.uniform)

    def forward(self, x):
        """(..., n) -> (..., m)."""
        flat, weight = x.reshape(-1, self.in_size), self.weight.flatten(1)
        if torch.compiler.is_compiling() and self.uniform and self.order == 3:
            # a compiler makes one loop of the closed form, but not if silu(x) must stand behind the bases
            bases = cubic_bases(flat.to(self.grid.dtype), self.first, self.step, self.grid_size + 3)
            split = weight.shape[1] - self.in_size
            y = F.linear(bases.flatten(1), weight[:, :split]) + F.linear(F.silu(flat), weight[:, split:])
        else:
            y = F.linear(self.features(flat).flatten(1), weight)
        return y.view(*x.shape[:-1], self.out_size)

    def curves(self, x):
        """What each edge gives: x (B, n) -> (B, m, n); summed over n it is the layer's output."""
        return torch.einsum("bcn,mcn->bmn", self.features(x), self.weight)

    @torch.no_grad()
    def set_grid(self, grid):
        """Change the knots to (n, G' + 1) and fit the splines anew, so that the curves stay (equation 2.16).

        Exact where each old knot is a new one too; else the closest by least squares, at k + 2 places of each cell.
        """
        old, self.grid_size = self.knots.double(), grid.shape[1] - 1
        shares = (torch.arange(self.order + 2, dtype=torch.float64, device=grid.device) + 0.5) / (self.order + 2)
        cells = grid.double().unflatten(1, (-1, 1))  # (n, G' + 1, 1)
        places = (cells[:, :-1] + (cells[:, 1:] - cells[:, :-1]) * shares).flatten(1).T  # (p, n)
        curves = torch.einsum("pcn,mcn->npm", bases(places, old, self.order), self.weight[:, :-1].double())
        new = bases(places, extended(grid.double(), self.order), self.order).permute(2, 0, 1)  # (n, p, G' + k)
        coefficients = torch.linalg.lstsq(new, curves).solution.permute(2, 1, 0).to(self.weight)  # (m, G' + k, n)
        weight = torch.cat([coefficients, self.weight[:, -1:]], 1)
        if weight.shape == self.weight.shape:  # so that an optimizer that has it can go on
            self.weight.copy_(weight)
        else:
            self.weight = nn.Parameter(weight)
        self.grid = grid.to(self.grid)
        self.notice_uniform()

    @torch.no_grad()
    def update_grid(self, x, grid_eps=1.0, margin=0.01):
        """Move the grid to where the inputs x (B, n) are, and a margin (a share of their range) further.

        `grid_eps` mixes knots at equal distances (1, the fastest) with knots that have as many of the inputs between
        them (0); the paper's code takes 0.02. Inputs that all are the same leave their grid as it is.
        """
        if not 0 < grid_eps <= 1:
            raise ValueError(f"grid_eps {grid_eps} must be above 0 and at most 1: knots must not fall together")
        x = x.double()
        shares = torch.linspace(0, 1, self.grid_size + 1, dtype=torch.float64, device=x.device)
        low, high = x.amin(0), x.amax(0)
        edge = margin * (high - low)
        even = (low - edge)[:, None] + (high - low + 2 * edge)[:, None] * shares
        quantiles = torch.quantile(x, shares, dim=0).T if grid_eps < 1 else even
        quantiles[:, 0], quantiles[:, -1] = even[:, 0], even[:, -1]
        grid = grid_eps * even + (1 - grid_eps) * quantiles
        apart = (high - low > 1e-6 * (1 + low.abs()))[:, None]
        self.set_grid(torch.where(apart, grid, self.grid.double()))

    def refine(self, grid_size):
        """Give the curves `grid_size` cells, each old cell cut alike; the curves stay. Liu et al. 2024, section 2.4."""
        places = torch.linspace(0, self.grid_size, grid_size + 1, dtype=torch.float64, device=self.grid.device)
        cell = places.long().clamp(max=self.grid_size - 1)
        grid = self.grid.double()
        self.set_grid(grid[:, cell] + (grid[:, cell + 1] - grid[:, cell]) * (places - cell))

    def notice_uniform(self):
        """The closed form is for cells that are all alike, but for rounding; then make them so in this precision."""
        shares = torch.linspace(0, 1, self.grid_size + 1, dtype=self.grid.dtype, device=self.grid.device)
        even = torch.lerp(self.grid[:, :1], self.grid[:, -1:], shares)
        rounding = 1e-6 * self.grid.abs().amax(1, keepdim=True)
        self.uniform = bool(((self.grid - even).abs() <= rounding).all())
        if self.uniform:
            self.grid = even
        self.knots = extended(self.grid, self.order)
        first, self.step, _ = evenly(self.knots)
        self.first = first.contiguous()  # both side by side in memory, as a compiler wants them

    def _apply(self, *words, **settings):
        super()._apply(*words, **settings)  # such as .double()
        self.notice_uniform()
        return self

    def _load_from_state_dict(self, *words):
        super()._load_from_state_dict(*words)
        self.notice_uniform()


class KAN(nn.Module):
    """KANLayers one behind the other: `KAN([2, 5, 1])` has 2 inputs, 5 neurons, 1 output. Liu et al. 2024, eq. 2.7."""

    def __init__(self, widths, grid_size=5, order=3):
        super().__init__()
        self.widths, self.grid_size, self.order = list(widths), grid_size, order
        self.layers = nn.ModuleList(KANLayer(n, m, grid_size, order) for n, m in zip(widths, widths[1:]))

    def forward(self, x):
        """(..., widths[0]) -> (..., widths[-1])."""
        for layer in self.layers:
            x = layer(x)
        return x

    def parameter_count(self):
        return sum(parameter.numel() for parameter in self.parameters())

    @torch.no_grad()
    def update_grids(self, x, grid_eps=1.0):
        """Fit each layer's grid to what reaches it from x (B, n). Parameters stay those of the optimizer."""
        for layer in self.layers:
            layer.update_grid(x, grid_eps)
            x = layer(x)

    def refine(self, grid_size):
        """Give all curves `grid_size` cells; see KANLayer. An optimizer must be made anew: the weights are new."""
        self.grid_size = grid_size
        for layer in self.layers:
            layer.refine(grid_size)

    def sizes_of_curves(self, x):
        """|phi|_1 of every edge, the mean over x (B, n) of |phi(x)|: one (m, n) for each layer (equation 2.17)."""
        sizes = []
        for layer in self.layers:
            curves = layer.curves(x)  # (B, m, n)
            sizes.append(curves.abs().mean(0))
            x = curves.sum(2)
        return sizes

    def regularization(self, x, l1=1.0, entropy=1.0):
        """What to add to a loss for few and small curves: l1 |Phi|_1 + entropy S(Phi), summed over layers.

        Liu et al. 2024, equations 2.17 to 2.20: S is low when few edges have all of a layer's size.
        """
        total = 0.0
        for sizes in self.sizes_of_curves(x):
            size = sizes.sum()
            # -sum p log p with p = |phi|_1 / |Phi|_1, where 0 log 0 is 0
            total = total + l1 * size + entropy * torch.special.entr(sizes / size.clamp(min=1e-12)).sum()
        return total
