"""Other KANs to measure ours against, and how their weights become ours: only where all agree, times mean something.

efficient-kan's layer is restated here from its formulas (github.com/Blealtan/efficient-kan at commit 7b6ce1c, the code
that most others are measured against); pykan, inkan and flashkan are used as they are installed, and may be missing.
Shapes: B points, n inputs, m outputs, c = G + k bases.
"""

import math

import torch
import torch.nn.functional as F
from kan_layer import KAN
from splines import extended
from torch import nn


class RecursiveKANLayer(nn.Module):
    """efficient-kan's layer: all bases of all orders by recursion, two products, a factor for each edge's spline."""

    knots: torch.Tensor  # (n, G + 1 + 2k)

    def __init__(self, in_size, out_size, grid_size=5, order=3):
        super().__init__()
        self.order = order
        grid = torch.linspace(-1, 1, grid_size + 1).repeat(in_size, 1)
        self.register_buffer("knots", extended(grid, order))
        self.base_weight = nn.Parameter(torch.empty(out_size, in_size))
        self.spline_weight = nn.Parameter(torch.empty(out_size, in_size, grid_size + order))
        self.spline_scaler = nn.Parameter(torch.empty(out_size, in_size))
        for weight in (self.base_weight, self.spline_scaler):
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        nn.init.normal_(self.spline_weight, std=0.1 / grid_size)

    def bases(self, x):
        """x (B, n) -> (B, n, c). Cox 1972 and de Boor 1972, each order from all bases of the one before."""
        x, t = x[:, :, None], self.knots
        values = ((t[:, :-1] <= x) & (x < t[:, 1:])).to(x.dtype)  # of order 0
        for d in range(1, self.order + 1):
            # B_i,d = (x - t_i) / (t_i+d - t_i) B_i,d-1 + (t_i+d+1 - x) / (t_i+d+1 - t_i+1) B_i+1,d-1
            first, last = t[:, : -d - 1], t[:, d + 1 :]
            rising = (x - first) / (t[:, d:-1] - first) * values[:, :, :-1]
            values = rising + (last - x) / (last - t[:, 1:-d]) * values[:, :, 1:]
        return values

    def forward(self, x):
        """(B, n) -> (B, m)."""
        splines = self.spline_weight * self.spline_scaler[:, :, None]
        return F.linear(F.silu(x), self.base_weight) + F.linear(self.bases(x).flatten(1), splines.flatten(1))


def recursive_kan(widths, grid_size):
    return nn.Sequential(*(RecursiveKANLayer(n, m, grid_size) for n, m in zip(widths, widths[1:])))


def pykan(widths, grid_size):
    """pykan without what its own speed() turns off: symbolic functions, records, files. It changes its widths."""
    from kan import MultKAN

    return MultKAN(list(widths), grid=grid_size, k=3, symbolic_enabled=False, save_act=False, auto_save=False)


def inkan(widths, grid_size):
    from inkan import KANNetwork

    return KANNetwork(widths, grid_size=grid_size)


def flashkan(widths, grid_size):
    from flashkan import KANNetwork

    return KANNetwork(widths, grid_size=grid_size)


# name: (how to build it, where its layers are, of a layer its splines (m, n, c) and its factors of silu (m, n))
PEERS = {
    "efficient-kan": (recursive_kan, lambda model: model,
                      lambda layer: (layer.spline_weight * layer.spline_scaler[:, :, None], layer.base_weight)),
    "pykan": (pykan, lambda model: model.act_fun,
              lambda layer: ((layer.coef * layer.scale_sp[:, :, None]).transpose(0, 1), layer.scale_base.T)),
    "inkan": (inkan, lambda model: model.layers, lambda layer: (layer.spline_weight, layer.base_weight)),
    "flashkan": (flashkan, lambda model: model.layers, lambda layer: (layer.spline_weight, layer.base_weight)),
}


@torch.no_grad()
def as_ours(name, model, widths, grid_size):
    """Our KAN with the curves of a peer's model."""
    _, layers, weights = PEERS[name]
    ours = KAN(widths, grid_size)
    for layer, theirs in zip(ours.layers, layers(model)):
        splines, base = weights(theirs)
        layer.weight.copy_(torch.cat([splines.transpose(1, 2), base[:, None]], 1))
    return ours
