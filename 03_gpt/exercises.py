"""The exercises of README.md: functions to write, and a check of each.

    python 03_gpt/exercises.py answers_03.py      # writes the file, to be filled; checks it once it is there
"""

import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from answers import grade
from experts import MixtureOfExperts
from gpt import GPT, SIZES, GPTConfig
from logit_filters import keep_top_p


def check_count_parameters(count_parameters):
    configs = [GPTConfig(65, 128, 64, 4, 4), GPTConfig(40, 16, 8, 2, 3), SIZES["gpt2"]]
    for config in configs:
        with torch.device("meta"):
            expected = GPT(config).parameter_count()
        sizes = config.vocab_size, config.embedding_size, config.block_size, config.layer_count
        found = count_parameters(*sizes)
        if found == expected + config.vocab_size * config.embedding_size:
            return "the head is the token embedding once more: count it once"
        if found != expected:
            return f"V, C, T, L = {sizes} have {expected:,} parameters, not {found:,} (biases and norms have some, too)"


def check_loss_gradient(loss_gradient):
    logits, targets = torch.randn(5, 7, requires_grad=True), torch.randint(7, (5,))
    expected = torch.autograd.grad(F.cross_entropy(logits, targets), logits)[0]
    found = loss_gradient(logits.detach(), targets)
    if torch.allclose(found, 5 * expected, atol=1e-6):
        return "that of the sum: divide by the number of rows"
    if found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-6):
        return f"for logits {logits.tolist()} and targets {targets.tolist()} it is {expected.tolist()}"


def check_nucleus(nucleus):
    probabilities = torch.tensor([0.1, 0.5, 0.15, 0.25])
    for p, expected in ((0.5, [1]), (0.6, [1, 3]), (0.75, [1, 3]), (0.76, [1, 2, 3]), (1.0, [0, 1, 2, 3])):
        if (found := sorted(nucleus(probabilities, p))) != expected:
            return f"{probabilities.tolist()} with p = {p} keeps the tokens {expected}, not {found}"
    for _ in range(20):
        logits = torch.randn(1, 30)
        expected = keep_top_p(logits, 0.8)[0].isfinite().nonzero()[:, 0].tolist()
        if sorted(nucleus(logits[0].softmax(-1), 0.8)) != expected:
            return f"{logits.softmax(-1).tolist()} with p = 0.8 keeps the tokens {expected}"


def check_route(route):
    experts = [torch.nn.Linear(8, 8, bias=False) for _ in range(5)]
    layer = MixtureOfExperts(8, experts, 2)
    x = torch.randn(6, 8)
    matrices = torch.stack([expert.weight for expert in experts])
    with torch.no_grad():
        found, expected = route(x, layer.gate.weight, matrices, 2), layer(x)
    probabilities = (x @ layer.gate.weight.T).softmax(-1)
    everyone = torch.einsum("ne,eij,nj->ni", probabilities, matrices, x)
    if torch.allclose(found, everyone, atol=1e-5):
        return "every token went through all experts: only its k best have a part"
    if found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-5):
        return "not the k best experts, weighted by their probabilities divided by the sum of these k"


def check_bytes_per_token(bytes_per_token):
    for name, config in SIZES.items():
        heads, layers = config.key_value_head_count or config.head_count, config.layer_count
        size = config.head_size or config.embedding_size // config.head_count
        expected = 2 * layers * heads * size * 2
        if (found := bytes_per_token(layers, heads, size)) != expected:
            wrong = " (keys and values)" if math.isclose(found, expected / 2) else ""
            return f"a cache of {name} in bfloat16 takes {expected:,} bytes per token, not {found:,}{wrong}"


if __name__ == "__main__":
    torch.manual_seed(0)
    flags.run(lambda: grade("03_gpt", globals()))
