"""The report's neural network by hand: forward pass, backward pass, gradient descent, without autograd.

Shapes: B points, and a width for each layer. Where the report has each activation as "y = mx + b", that is the part
before the activation: m x + b is linear, and a stack of linear layers is one linear layer (`collapsed` makes it). What
lets a network bend is the function that stands between two of them.
"""

import torch
import torch.nn.functional as F
from torch import nn

# each activation, and its slope; of SiLU, x s(x), it is s(x) (1 + x (1 - s(x))) with the sigmoid s
ACTIVATIONS = {
    "tanh": (torch.tanh, lambda z: 1 - torch.tanh(z) ** 2),
    "relu": (torch.relu, lambda z: (z > 0).to(z.dtype)),
    "silu": (F.silu, lambda z: z.sigmoid() * (1 + z * (1 - z.sigmoid()))),
    "none": (lambda z: z, torch.ones_like),  # which makes the network linear, however deep
}


class MLP(nn.Module):
    """A multi-layer perceptron: `MLP([2, 5, 1])` has 2 inputs, 5 neurons, 1 output; `layers[i]` is an nn.Linear.

    Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors".
    """

    def __init__(self, widths, activation="silu"):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"no activation '{activation}': choose from {', '.join(ACTIVATIONS)}")
        self.widths, self.activation = list(widths), activation
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in zip(widths, widths[1:]))

    def forward(self, x):
        """(..., widths[0]) -> (..., widths[-1]); no activation after the last layer."""
        function, _ = ACTIVATIONS[self.activation]
        for layer in self.layers[:-1]:
            x = function(layer(x))
        return self.layers[-1](x)

    def parameter_count(self):
        return sum(parameter.numel() for parameter in self.parameters())


def forward_pass(weights, biases, x, activation="tanh"):
    """x (B, n) -> what goes into each layer, and what each gives before its activation; the last one is the output."""
    function, _ = ACTIVATIONS[activation]
    inputs, sums = [], []
    for W, b in zip(weights, biases):
        inputs.append(x)
        sums.append(x @ W.T + b)  # (B, n) @ (n, m) + (m,): the report's y = mx + b, for all points and neurons at once
        x = function(sums[-1])
    return inputs, sums


def backward_pass(weights, inputs, sums, y, activation="tanh"):
    """Gradients of the mean squared error against y, one for each weight matrix and one for each bias.

    Rumelhart, Hinton and Williams 1986, equations 4 to 7: layer by layer from the output back, by the chain rule.
    """
    _, slope = ACTIVATIONS[activation]
    d_sum = 2 * (sums[-1] - y) / y.numel()  # of mean (output - y)^2
    d_weights, d_biases = [], []
    for i in reversed(range(len(weights))):
        d_weights.insert(0, d_sum.T @ inputs[i])  # (m, B) @ (B, n)
        d_biases.insert(0, d_sum.sum(0))
        if i:  # how the loss changes with what came in, and then with what the layer before gave
            d_sum = d_sum @ weights[i] * slope(sums[i - 1])
    return d_weights, d_biases


def gradient_descent(weights, biases, x, y, learning_rate, steps, activation="tanh"):
    """Change weights and biases, in place, a little against their gradients, again and again; returns the losses."""
    losses = []
    for _ in range(steps):
        inputs, sums = forward_pass(weights, biases, x, activation)
        losses.append((sums[-1] - y).square().mean().item())
        d_weights, d_biases = backward_pass(weights, inputs, sums, y, activation)
        for parameter, gradient in zip(weights + biases, d_weights + d_biases):
            parameter -= learning_rate * gradient
    return losses


def collapsed(weights, biases):
    """The one layer (W, b) that does what linear layers do: W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2)."""
    W, b = weights[0], biases[0]
    for next_W, next_b in zip(weights[1:], biases[1:]):
        W, b = next_W @ W, next_W @ b + next_b
    return W, b
