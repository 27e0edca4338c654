"""A Kolmogorov-Arnold network: each edge has a curve of its own, each neuron only adds up what comes in.

An edge is phi(x) = w_b silu(x) + w_s sum_i c_i B_i(x) with B-splines B_i. The paper keeps w_s although c can absorb it;
here c has. So a layer is one matrix product: the features B_1(x), ..., B_c(x), silu(x) of all inputs times a weight.
Shapes: B points, n inputs, m outputs, G cells of the grid, order k, G + k bases; feature j of input i is [:, j, i], so
that what is computed alike lies side by side.
"""

from typing import Any

import torch
import torch.nn.functional as F
from splines import FastFeatures, bases, cubic_features, evenly, extended, feature_slopes
from torch import nn

UNROLLED = 16  # cells of a grid, up to which a compiler gets a line for each basis: it needs seconds for each


class KANLayer(nn.Module):
    """n inputs -> m outputs, each a sum of n curves. `weight` (m, G + k + 1, n): of each curve c_1, ..., c_G+k, w_b.

    Liu et al. 2024, "KAN: Kolmogorov-Arnold Networks", equations 2.10 to 2.12.
    """

    def __init__(self, in_size, out_size, grid_size=5, order=3, grid_range=(-1, 1)):
        super().__init__()
        low, high = grid_range
        if grid_size < 1 or order < 1 or not low < high:
            raise ValueError(f"grid_size {grid_size} and order {order} must be at least 1, and {grid_range} must rise")
        self.in_size, self.out_size, self.grid_size, self.order = in_size, out_size, grid_size, order
        self.register_buffer("grid", torch.linspace(low, high, grid_size + 1).repeat(in_size, 1))  # (n, G + 1)
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
        if torch.compiler.is_compiling() and self.uniform and self.order == 3 and self.grid_size <= UNROLLED:
            kind = x.device.type
            rounds = torch.is_autocast_enabled(kind) and weight.dtype != torch.float64  # later, in another loop
            dtype = torch.get_autocast_dtype(kind) if rounds else weight.dtype
            features = cubic_features(flat.to(self.grid.dtype), self.first, self.step, self.grid_size + 3, dtype)
        else:
            features = self.features(flat).flatten(1)
        y = F.linear(features, weight)
        return y.view(*x.shape[:-1], self.out_size)

    def curves(self, x):
        """What each edge gives: x (B, n) -> (B, m, n); summed over n it is the layer's output."""
        return torch.einsum("bcn,mcn->bmn", self.features(x), self.weight)

    @torch.no_grad()
    def set_grid(self, grid):
        """Change the knots to (n, G' + 1) and fit the splines anew, so that the curves stay (equation 2.16).

        Exact where each old knot is a new one too; else the closest by least squares, at k + 2 places of each cell.
        Raises FloatingPointError where the grid or the weights hold what is no finite number.
        """
        if not (grid.isfinite().all() and self.weight.isfinite().all()):
            raise FloatingPointError("the KAN has diverged, to no finite numbers: lower the learning rate")
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

    layers: Any  # an nn.ModuleList of KANLayer

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
