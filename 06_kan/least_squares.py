"""Fit a KAN or an MLP to points with second-order methods: Levenberg-Marquardt, L-BFGS, and several beginnings.

A sum of squares has more to give than its gradient: with the Jacobian J of all residuals r, the step that would be
right if the network were linear. J comes layer by layer in closed form: no pass of autograd for each point.
Shapes: B points, d outputs, P parameters; a layer has n inputs and m outputs.
"""

import math

import torch
from kan_layer import KAN
from mlp import ACTIVATIONS

CHUNK = 2**22  # numbers of a Jacobian that are held at a time


def unlimited(error, steps, gradients):
    """An `on_step`: what optimizers here call before the first step and after each, with the model as it then stands.

    `error` is its RMSE; `steps` and `gradients` (or Jacobians) are what was taken since the last call. Returns the
    share of the budget that is used up: at 1 the fit ends.
    """
    return 0.0


def parts_of_kan(model, x):
    """For each layer: what multiplies its parameters (B, c, n), and d outputs / d inputs (B, m, n)."""
    parts = []
    for layer in model.layers:
        features = layer.features(x)  # (B, c, n), the same for all m outputs
        slope = torch.einsum("bcn,mcn->bmn", layer.feature_slopes(x), layer.weight) if parts else None
        parts.append((features, slope))
        x = torch.einsum("bcn,mcn->bm", features, layer.weight)
    return x, parts


def parts_of_mlp(model, x):
    """The same for an MLP, in which the inputs multiply the weights, and 1 the biases."""
    function, slope = ACTIVATIONS[model.activation]
    parts, inner = [], None
    for layer in model.layers:
        ones = x.new_ones(len(x), 1)
        through = None if inner is None else layer.weight * inner[:, None]  # (m, n) * (B, 1, n)
        parts.append((torch.cat([x, ones], 1)[:, None], through))
        z = layer(x)
        x, inner = function(z), slope(z)
    return z, parts


@torch.no_grad()
def jacobian(model, x):
    """x (B, n) -> the outputs (B, d) and how they change with all parameters, in their order: (B, d, P).

    Backwards through the layers, for all points at once: with A = d output / d outputs of the layer (B, d, m), its
    parameters have A x (what multiplies them), and the layer before has A @ (d outputs / d inputs).
    """
    output, parts = (parts_of_kan if isinstance(model, KAN) else parts_of_mlp)(model, x)
    A = torch.eye(output.shape[1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
    pieces = []
    for factor, slope in reversed(parts):
        of_layer = A[:, :, :, None, None] * factor[:, None, None]  # (B, d, m, c, n)
        if isinstance(model, KAN):
            pieces.append(of_layer.flatten(2))
        else:  # an nn.Linear has its weights, then its biases
            pieces += [of_layer[..., 0, -1], of_layer[..., 0, :-1].flatten(2)]
        if slope is not None:
            A = A @ slope
    return output, torch.cat(pieces[::-1], 2)


def normal_equations(model, x, y):
    """J^T J (P, P), J^T r (P,) and the sum of r^2, where r = outputs - y; a part of the points at a time."""
    count = sum(parameter.numel() for parameter in model.parameters())
    square, gradient, total = x.new_zeros(count, count), x.new_zeros(count), 0.0
    rows = max(1, CHUNK // (count * y.shape[1]))
    for piece, wanted in zip(x.split(rows), y.split(rows)):
        output, J = jacobian(model, piece)
        J, r = J.flatten(0, 1), (output - wanted).flatten()
        square.addmm_(J.T, J)
        gradient.addmv_(J.T, r)
        total += r.dot(r).item()
    return square, gradient, total


@torch.no_grad()
def rmse(model, x, y):
    """The root of the mean squared error."""
    return (model(x) - y).square().mean().sqrt().item()


@torch.no_grad()
def levenberg_marquardt(model, x, y, steps=50, damping=1e-2, target=0.0, on_step=unlimited):
    """Fit in place to x (B, n), y (B, d), all in float64; returns the RMSE before and after each step that was better.

    (J^T J + damping D) step = -J^T r, where D is the diagonal of J^T J: little damping is Newton's step, much is a
    small one down the gradient. After a step that is better the damping is divided by 10; else it is multiplied.
    Ends after `steps` trials, at `target`, or where nothing gets better. Marquardt 1963, "An Algorithm for
    Least-Squares Estimation of Nonlinear Parameters".
    """
    parameters = list(model.parameters())
    if any(parameter.dtype != torch.float64 for parameter in [*parameters, x, y]):
        raise ValueError("least squares need float64: call .double() on the model, x and y")
    vector = torch.nn.utils.parameters_to_vector(parameters)
    square, gradient, total = normal_equations(model, x, y)
    history = [math.sqrt(total / y.numel())]
    on_step(history[0], 0, 1)
    for _ in range(steps):
        diagonal = square.diagonal()
        # a parameter that moves nothing now, such as a basis that no point reaches, must not divide by 0
        floor = 1e-12 * diagonal.max().clamp(min=1e-300)
        factor, failed = torch.linalg.cholesky_ex(square + damping * torch.diag(diagonal + floor))
        error = math.inf
        if not failed:
            tried = vector - torch.cholesky_solve(gradient[:, None], factor)[:, 0]
            torch.nn.utils.vector_to_parameters(tried, parameters)
            error = rmse(model, x, y)
        if better := error < history[-1]:
            vector = tried
            square, gradient, _ = normal_equations(model, x, y)
            history.append(error)
            damping = max(damping / 10, 1e-15)
            ended = error <= target or error > (1 - 1e-9) * history[-2]
        else:
            torch.nn.utils.vector_to_parameters(vector, parameters)
            damping *= 10
            ended = damping > 1e12  # not even the smallest step down the gradient helps: the lowest place
        if on_step(history[-1], 1, int(better)) >= 1 or ended:
            break
    return history


def lbfgs(model, x, y, steps=50, target=0.0, on_step=unlimited):
    """Fit in place by L-BFGS with the strong Wolfe conditions; returns the RMSE before and after each step.

    Liu and Nocedal 1989, "On the limited memory BFGS method for large scale optimization".
    """
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=1, max_eval=25, history_size=50, tolerance_grad=0,
                                  tolerance_change=0, line_search_fn="strong_wolfe")
    gradients = 0

    def closure():
        nonlocal gradients
        gradients += 1
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss

    history = [rmse(model, x, y)]
    on_step(history[0], 0, 0)
    for _ in range(steps):
        if history[-1] <= target:
            break
        gradients = 0
        optimizer.step(closure)
        history.append(rmse(model, x, y))
        if on_step(history[-1], 1, gradients) >= 1:
            break
    return history


def fit_refining(model, x, y, grid_sizes, steps=30, method=levenberg_marquardt, target=0.0):
    """Fit a KAN with coarse grids, then with finer and finer ones, whose ranges follow what reaches them.

    Returns the RMSE along the way, a list for each grid size. Liu et al. 2024, section 2.4.
    """
    histories = []
    for grid_size in grid_sizes:
        model.update_grids(x)
        if grid_size != model.grid_size:
            model.refine(grid_size)
        histories.append(method(model, x, y, steps=steps, target=target))
        if histories[-1][-1] <= target:
            break
    return histories


def multi_start(build, fit, seeds, target=0.0):
    """`build()` a model and `fit(model)`, which returns its error, from several seeds: (best model, errors of all).

    Ends early when an error is at most `target`. An error that is no number counts as infinite.
    """
    best, errors = None, []
    for seed in seeds:
        torch.manual_seed(seed)
        model = build()
        error = fit(model)
        errors.append(error if math.isfinite(error) else math.inf)
        if best is None or errors[-1] < min(errors[:-1]):
            best = model
        if errors[-1] <= target:
            break
    return best, errors
