"""The network by hand has autograd's gradients and torch's gradient descent; linear layers are one linear layer."""

import math

import pytest
import torch
import torch.nn.functional as F
from by_hand import POINTS, learned
from mlp import ACTIVATIONS, MLP, backward_pass, collapsed, forward_pass, gradient_descent


def network(activation, widths=(3, 5, 4, 2)):
    torch.manual_seed(0)
    model = MLP(widths, activation).double()
    x, y = torch.randn(7, widths[0]).double(), torch.randn(7, widths[-1]).double()
    weights, biases = zip(*((layer.weight, layer.bias) for layer in model.layers))
    copies = [[each.detach().clone() for each in parameters] for parameters in (weights, biases)]
    return model, x, y, *copies


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_both_passes_equal_autograd(activation):
    model, x, y, weights, biases = network(activation)
    inputs, sums = forward_pass(weights, biases, x, activation)
    assert torch.allclose(sums[-1], model(x), atol=1e-14), "is there an activation after the last layer?"
    assert len(inputs) == len(sums) == 3 and torch.equal(inputs[0], x)
    F.mse_loss(model(x), y).backward()
    d_weights, d_biases = backward_pass(weights, inputs, sums, y, activation)
    for layer, d_weight, d_bias in zip(model.layers, d_weights, d_biases):
        assert torch.allclose(d_weight, layer.weight.grad, atol=1e-14), "is the slope that of the layer before?"
        assert torch.allclose(d_bias, layer.bias.grad, atol=1e-14)


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
def test_activations_are_those_of_torch(activation):
    function, slope = ACTIVATIONS[activation]
    z = torch.linspace(-30, 30, 121, dtype=torch.float64, requires_grad=True)
    expected = getattr(F, activation)(z)
    assert torch.equal(function(z), expected)
    assert torch.allclose(slope(z), torch.autograd.grad(expected.sum(), z)[0], atol=1e-14)


def test_gradient_descent_equals_sgd():
    model, x, y, weights, biases = network("tanh")
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.05), []
    for _ in range(20):
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    ours = gradient_descent(weights, biases, x, y, learning_rate=0.05, steps=20)
    assert torch.allclose(torch.tensor(ours), torch.tensor(losses), rtol=1e-12)
    assert ours[-1] < ours[0]
    for layer, W, b in zip(model.layers, weights, biases):
        assert torch.allclose(layer.weight, W, atol=1e-13) and torch.allclose(layer.bias, b, atol=1e-13)


def test_a_stack_of_linear_layers_is_one_and_a_bent_one_is_not():
    model, x, _, weights, biases = network("none", (3, 50, 50, 50, 2))
    W, b = collapsed(weights, biases)
    assert W.shape == (2, 3) and torch.allclose(x @ W.T + b, model(x), atol=1e-13), "in which order?"
    bent, *_ = network("tanh", (3, 50, 50, 50, 2))
    assert (x @ W.T + b - bent(x)).abs().max() > 0.01


def test_parameters_are_counted():
    assert MLP([784, 64, 10]).parameter_count() == 784 * 64 + 64 + 64 * 10 + 10
    with pytest.raises(ValueError, match="no activation 'step': choose from tanh"):
        MLP([1, 1], "step")


def test_what_is_learned_without_an_activation_is_the_line_of_least_squares():
    losses, weights, biases = learned("none")
    x = torch.linspace(-1, 1, POINTS).double()
    y = torch.sin(math.pi * x)
    slope = (x * y).mean() / x.square().mean()  # the line goes through 0, as the points lie evenly around it
    W, b = collapsed(weights, biases)
    assert W.item() == pytest.approx(slope.item(), abs=1e-4) and b.item() == pytest.approx(0, abs=1e-4)
    assert losses[-1] == pytest.approx((slope * x - y).square().mean().item(), abs=1e-6)
    assert learned("tanh")[0][-1] < losses[-1] / 100
