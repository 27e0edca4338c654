"""Look into a trained KAN: leave out what does nothing, find a known function for each edge, write the formula, draw.

An edge is (layer, input, output). Liu et al. 2024, "KAN: Kolmogorov-Arnold Networks", section 2.5.
"""

import math

import torch
from kan_layer import KAN

# name: (function, where it is defined if not everywhere, how it is written), the plainer ones first
LIBRARY = {
    "0": None,
    "x": (lambda z: z, None, "{}"),
    "x^2": (lambda z: z**2, None, "({})^2"),
    "x^3": (lambda z: z**3, None, "({})^3"),
    "x^4": (lambda z: z**4, None, "({})^4"),
    "1/x": (lambda z: 1 / z, lambda z: z.abs() > 1e-2, "1/({})"),
    "sqrt": (torch.sqrt, lambda z: z > 0, "sqrt({})"),
    "log": (torch.log, lambda z: z > 1e-3, "log({})"),
    "exp": (torch.exp, None, "exp({})"),
    "sin": (torch.sin, None, "sin({})"),
    "tanh": (torch.tanh, None, "tanh({})"),
    "abs": (torch.abs, None, "|{}|"),
    "gaussian": (lambda z: (-(z**2)).exp(), None, "exp(-({})^2)"),
}
PLAINER = 1e-3  # of R^2, that an earlier function of the library may lack against a later one


@torch.no_grad()
def layer_inputs(model, x):
    """What reaches each layer from x (B, n)."""
    inputs = []
    for layer in model.layers:
        inputs.append(x)
        x = layer(x)
    return inputs


def shares_of_edges(curves):
    """The deviation of each edge's curve (B, m, n), as a share of its layer's largest: (m, n).

    The paper takes the mean |phi|. But a constant needs no edge of its own: bases of any other one sum to 1.
    """
    deviations = curves.std(0)
    return deviations / deviations.max().clamp(min=1e-30)


@torch.no_grad()
def prune(model, x, threshold=1e-2):
    """A new, smaller KAN without hidden neurons that hardly matter on x (B, n), and with 0 for edges that hardly do.

    A neuron stays if both its largest edge in and its largest edge out are above `threshold` as shares of the largest
    of their layers; an edge, if it is. Of each layer the largest neuron stays. The constants of what is left out go to
    the largest edge beside it. Equation 2.21, with shares_of_edges.
    """
    curves = [layer.curves(z) for z, layer in zip(layer_inputs(model, x), model.layers)]  # (B, m, n) each
    shares = [shares_of_edges(each) for each in curves]
    kept = [torch.arange(model.widths[0])]
    for before, after in zip(shares, shares[1:]):
        score = torch.minimum(before.amax(1), after.amax(0))
        kept.append((score > threshold).nonzero()[:, 0] if (score > threshold).any() else score.argmax()[None])
    kept.append(torch.arange(model.widths[-1]))
    small = KAN([len(places) for places in kept], model.grid_size, model.order).to(x)
    for layer, new, curve, share, inputs, outputs in zip(model.layers, small.layers, curves, shares, kept, kept[1:]):
        share = share[outputs][:, inputs]
        stays, means = share > threshold, curve.mean(0)[outputs]
        new.weight.copy_(layer.weight[outputs][:, :, inputs] * stays[:, None])
        constant = means.sum(1) - (means[:, inputs] * stays).sum(1)  # of what is left out, (m,)
        new.weight[range(len(outputs)), :-1, share.argmax(1)] += constant[:, None]
        new.grid.copy_(layer.grid[inputs])
        new.notice_uniform()
    return small


def line(z, y):
    """The a and d that bring a z + d closest to y, for each row of z (..., B), and the R^2 of it: three of (...)."""
    z_mean, y_mean = z.mean(-1, keepdim=True), y.mean()
    z, y = z - z_mean, y - y_mean
    variance = z.square().sum(-1)
    covariance = (z * y).sum(-1)
    a = covariance / variance.clamp(min=1e-30)
    r2 = covariance.square() / (variance * y.square().sum()).clamp(min=1e-30)
    return a, y_mean - a * z_mean[..., 0], r2.clamp(max=1)


def affine_fit(name, z, y, rounds=9, side=21):
    """The function of the library that is bent to y (B,) over z (B,): (R^2, (a, b, c, d)) for a f(b z + c) + d.

    b and c by trying a grid of them, then finer and finer ones around the best; a and d by least squares.
    """
    if LIBRARY[name] is None:
        return (1.0 if y.square().mean() == 0 else 0.0), (0.0, 0.0, 0.0, 0.0)
    function, allowed, _ = LIBRARY[name]
    middle, scale = z.mean(), (z.amax() - z.amin()).clamp(min=1e-12) / 2
    u = (z - middle) / scale  # so that what is tried fits any range
    if name == "x":
        a, d, r2 = line(z, y)
        return r2.item(), (a.item(), 1.0, 0.0, d.item())
    b_at, c_at, b_width, c_width, best = 0.0, 0.0, 10.0, 10.0, (-1.0, None)
    for _ in range(rounds):
        steps = torch.linspace(-1, 1, side, dtype=z.dtype)
        b, c = torch.meshgrid(b_at + b_width * steps, c_at + c_width * steps, indexing="ij")
        inner = b[..., None] * u + c[..., None]  # (side, side, B)
        good = b.abs() > 1e-2  # with less, all is as good as straight, and what is left of it is rounding
        if allowed:
            good &= allowed(inner).all(-1)
        outer = function(inner)
        good &= torch.isfinite(outer).all(-1) & (outer.abs().amax(-1) < 1e6)
        a, d, r2 = line(torch.where(good[..., None], outer, 0), y)
        r2 = torch.where(good, r2, -1)
        i = r2.argmax()
        found = [each.flatten()[i].item() for each in (r2, a, b, c, d)]
        if found[0] > best[0]:
            best = found[0], found[1:]
        if best[1]:
            b_at, c_at = best[1][1:3]
        b_width, c_width = b_width / 4, c_width / 4
    if best[1] is None:
        return 0.0, (0.0, 0.0, 0.0, 0.0)
    a, b, c, d = best[1]
    return best[0], plainer(name, a, b / scale.item(), c - b * (middle / scale).item(), d)


def plainer(name, a, b, c, d):
    """The same a f(b z + c) + d in other numbers, where there are such: b is 1, or at least above 0, and c small."""
    power = {"x^2": 2, "x^3": 3, "x^4": 4, "1/x": -1}.get(name)
    if power:  # a (b z + c)^p = a b^p (z + c / b)^p
        return a * b**power, 1.0, c / b, d
    if name in ("sqrt", "abs"):  # sqrt(|b|) and |b| can be taken out; under the root the sign can't
        size = abs(b)
        a, c, b = a * (size**0.5 if name == "sqrt" else size), c / size, math.copysign(1.0, b)
    if name == "log":  # log(|b| z) = log(z) + log(|b|)
        d, c, b = d + a * math.log(abs(b)), c / abs(b), math.copysign(1.0, b)
    if name == "exp":  # e^(b z + c) = e^c e^(b z)
        return a * math.exp(c), b, 0.0, d
    if b < 0 and name in ("sin", "tanh", "abs", "gaussian"):  # f(-z) is -f(z) or f(z)
        a, b, c = a * (-1 if name in ("sin", "tanh") else 1), -b, -c
    if name == "sin":  # whole turns do nothing, half turns change the sign
        halves = round(c / math.pi)
        a, c = a * (-1) ** halves, c - halves * math.pi
    return a, b, c, d


@torch.no_grad()
def suggest(model, layer, i, j, x):
    """Known functions for the edge from input i to output j of a layer, best first: [(name, R^2, (a, b, c, d)), ...].

    Each is a f(b z + c) + d, fitted to the curve at what reaches it from x (B, n); 300 of these points are enough.
    """
    inputs = layer_inputs(model, x[:300])[layer]
    y = model.layers[layer].curves(inputs)[:, j, i].double()
    fits: list[tuple] = [(name, *affine_fit(name, inputs[:, i].double(), y)) for name in LIBRARY]
    order = list(LIBRARY)
    # two that fit alike: the one that stands first in the library is the plainer
    return sorted(fits, key=lambda fit: (-round(fit[1] / PLAINER), order.index(fit[0])))


def number(value, digits):
    """So many significant digits, 2: 0.000123 -> "0.00012", 1.999 -> "2.0", 123.4 -> "120.0", 3e-7 -> "3e-07"."""
    return str(float(f"{value:.{digits}g}") + 0.0)


def written(name, numbers, inner, digits=3, z_size=1.0, y_size=1.0):
    """a f(b z + c) + d as text, where z is the text `inner`: "2.0 sin(3.14 x1)".

    `z_size` and `y_size` are the largest |z| and |a f(b z + c) + d|: c and d are left out where they are less than what
    the digits of b z and of the whole leave open.
    """
    if name == "0":
        return "0"
    a, b, c, d = numbers
    zero, one = number(0.0, digits), number(1.0, digits)

    def times(factor, what):
        factor = number(factor, digits)
        return {one: what, "-" + one: f"-{what}", zero: zero}.get(factor, f"{factor} {what}")

    def plus(what, constant, size):
        if abs(constant) <= 10.0**-digits * size:
            return what
        constant = number(constant, digits)
        return constant if what == zero else f"{what} + {constant}".replace("+ -", "- ")

    inside = plus(times(b, inner), c, abs(b) * z_size)
    function = LIBRARY[name][2].format(inside)
    return plus(times(a, f"({function})" if function == inside and function != inner else function), d, y_size)


def formula(model, x, digits=3):
    """What a trained KAN computes, as text: each edge replaced by the best of `suggest`, one text for each output.

    Numbers have so many significant digits: those of a small hidden neuron are small. Returns (texts, lowest R^2 of all
    edges): the text is as good as its worst edge.
    """
    worst, texts = 1.0, [f"x{i + 1}" for i in range(model.widths[0])]
    for at, (layer, reached) in enumerate(zip(model.layers, layer_inputs(model, x))):
        sums, z_sizes, y_sizes = [], reached.abs().amax(0).tolist(), layer.curves(reached).abs().amax(0).tolist()
        for j in range(layer.out_size):
            terms = []
            for i in range(layer.in_size):
                name, r2, numbers = suggest(model, at, i, j, x)[0]
                worst = min(worst, r2)
                inner = texts[i] if texts[i].isalnum() else f"({texts[i]})"
                terms.append(written(name, numbers, inner, digits, z_sizes[i], y_sizes[j][i]))
            shown = [term for term in terms if term not in ("0", number(0.0, digits))]
            sums.append(" + ".join(shown).replace("+ -", "- ") or "0")
        texts = sums
    return texts, worst


@torch.no_grad()
def draw(model, x):
    """A figure of the KAN: inputs below, outputs above, on each edge its curve over what reaches it from x (B, n).

    An edge is the darker, the more it gives (shares_of_edges).
    """
    from matplotlib.figure import Figure

    names = [f"x{i + 1}" for i in range(model.widths[0])]
    edges = max(layer.in_size * layer.out_size for layer in model.layers)
    figure = Figure(figsize=(max(3.0, 0.9 * edges), 2.4 * len(model.layers) + 0.4))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 1), ylim=(-0.2, len(model.layers) + 0.2))
    axes.set_axis_off()
    height = len(model.layers) + 0.4

    def place(at, count):
        return (at + 0.5) / count

    for level, width in enumerate(model.widths):
        axes.plot([place(i, width) for i in range(width)], [level] * width, "o", color="black", zorder=3)
    for i, name in enumerate(names):
        axes.annotate(name, (place(i, model.widths[0]), -0.05), ha="center", va="top")
    for level, (layer, reached) in enumerate(zip(model.layers, layer_inputs(model, x))):
        low, high = reached.amin(0), reached.amax(0)
        z = low + (high - low) * torch.linspace(0, 1, 100, dtype=x.dtype)[:, None]
        curves, count = layer.curves(z), layer.in_size * layer.out_size
        shade = shares_of_edges(layer.curves(reached)).clamp(min=0.05)
        for i in range(layer.in_size):
            for j in range(layer.out_size):
                middle, alpha = place(i * layer.out_size + j, count), shade[j, i].item()
                axes.plot([place(i, layer.in_size), middle], [level, level + 0.3], color="black", alpha=alpha, lw=1)
                axes.plot([middle, place(j, layer.out_size)], [level + 0.7, level + 1], color="black", alpha=alpha,
                          lw=1)
                side = min(0.8 / count, 0.2)
                inset = figure.add_axes((middle - side / 2, (level + 0.3 + 0.2) / height, side, 0.4 / height))
                inset.plot(z[:, i], curves[:, j, i], color="black", alpha=alpha)
                inset.set(xticks=[], yticks=[])
    return figure
