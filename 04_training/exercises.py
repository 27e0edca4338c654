"""The exercises of README.md and FURTHER.md: functions to write, and a check of each.

    python 04_training/exercises.py answers_04.py      # writes the file, to be filled; checks it once it is there
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from answers import grade
from dpo import preference_loss
from lora import LoRALinear, Peft
from ngram import Ngram
from optimizers import orthogonalise
from rollouts import advantages
from schedules import cosine


def check_adamw_step(adamw_step):
    w, other = (torch.nn.Parameter(torch.ones(5, dtype=torch.float64)) for _ in range(2))
    optimizer = torch.optim.AdamW([w], lr=0.1, betas=(0.9, 0.95), weight_decay=0.2)
    penalty = torch.optim.Adam([other], lr=0.1, betas=(0.9, 0.95), weight_decay=0.2)
    mine, m, v = w.detach().clone(), torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for t in (1, 2, 3):
        w.grad = other.grad = torch.randn(5, dtype=torch.float64)
        optimizer.step()
        penalty.step()
        mine, m, v = adamw_step(mine, w.grad, m, v, t, 0.1, 0.9, 0.95, 1e-8, 0.2)
        if torch.allclose(mine, other, atol=1e-9) or torch.allclose(m, 0.1 * (w.grad + 0.2), atol=1e-9) and t == 1:
            return "the decay must not go through the gradient: it is taken from the weights beside Adam's step"
        if t == 1 and torch.allclose(mine, w + 0.1 * w.grad.sign() * (1 - 0.1 / 0.05**0.5), atol=1e-6):
            return "m and v begin at 0, and are too small at first: divide them by 1 - beta^t"
        if not torch.allclose(mine, w, atol=1e-9):
            return f"after step {t} torch has {w.tolist()}, and you {mine.tolist()}"


def check_learning_rate(learning_rate):
    schedule = cosine(3e-4, 1000, warmup=0.1, final=0.1)
    for step in (0, 50, 99, 100, 550, 999):
        if not math.isclose(found := learning_rate(step, 1000, 3e-4, 100, 3e-5), schedule(step), rel_tol=1e-6):
            hint = ": the first step must learn something, too" if step == found == 0 else ""
            return f"at step {step} of 1000 it is {schedule(step):.6g}, not {found:.6g}{hint}"


def check_bits_per_byte(bits_per_byte):
    for loss, tokens, size in ((2.0, 1000, 4000), (3.5, 10, 31), (math.log(2), 8, 8)):
        expected = loss * tokens / math.log(2) / size
        if not math.isclose(found := bits_per_byte(loss, tokens, size), expected):
            hint = ": those are nats" if math.isclose(found, loss * tokens / size) else (
                ": those are bits of a token" if math.isclose(found, loss / math.log(2)) else "")
            return f"{tokens} tokens of {loss:.3f} nats, {size} bytes: {expected:.4f} bits, not {found:.4f}{hint}"


def check_discounted(discounted):
    tokens = np.array([0, 1, 0, 1, 0, 2, 0, 1, 3, 1, 0, 2])
    lower = Ngram(tokens, 1, 5, discount=0.7).next([])
    counts = np.bincount(tokens[1:][tokens[:-1] == 0], minlength=5)  # what comes after a 0
    expected = Ngram(tokens, 2, 5, discount=0.7).next([0])
    found = np.asarray(discounted(counts, lower, 0.7), dtype=float)
    if found.shape != (5,) or not np.allclose(found, expected):
        lost = found.shape == (5,) and abs(found.sum() - 1) > 1e-6
        hint = f", and yours sum to {found.sum():.3f}: what is taken off goes to the shorter context" if lost else ""
        return (f"counts {counts.tolist()}, lower {lower.round(4).tolist()}, D = 0.7 give {expected.round(4).tolist()}"
                f"{hint}")


def check_newton_schulz(newton_schulz):
    for shape in ((4, 4), (3, 7)):
        x = torch.randn(shape, dtype=torch.float64)
        u, _, v = torch.linalg.svd(x, full_matrices=False)
        found = newton_schulz(x)
        if torch.allclose(found, u @ v, atol=1e-6):
            return "these are all 1, by a decomposition: Muon's polynomial only comes near, but needs products alone"
        if not torch.allclose(found, orthogonalise(x), atol=1e-9):
            return f"for {x.tolist()} it is {orthogonalise(x).tolist()}"


def check_dpo_loss(dpo_loss):
    numbers = [-12.0, -15.0, -13.0, -14.5]  # of policy and reference, chosen and rejected each
    expected = preference_loss("dpo", torch.tensor(numbers[0] - numbers[2] - (numbers[1] - numbers[3])), 0.1).item()
    if not math.isclose(found := float(dpo_loss(*numbers, 0.1)), expected, rel_tol=1e-5):
        margin = numbers[0] - numbers[2] - (numbers[1] - numbers[3])
        hints = {math.log1p(math.exp(-0.1 * (numbers[0] - numbers[1]))): ": where is the reference?",
                 math.log1p(math.exp(0.1 * margin)): ": chosen and rejected are exchanged"}
        hint = next((said for value, said in hints.items() if math.isclose(found, value, rel_tol=1e-5)), "")
        return f"of log-probabilities {numbers} and beta 0.1 it is {expected:.5f}, not {found:.5f}{hint}"


def check_gae(gae):
    rewards, values = [0.0, 0.0, 1.0], [0.5, 0.4, 0.6]
    expected = advantages(torch.tensor([rewards]), torch.tensor([values]), 1.0, 0.95)[0]
    found = torch.as_tensor(gae(rewards, values, 1.0, 0.95))
    if found.shape != (3,) or not torch.allclose(found.float(), expected, atol=1e-6):
        one_step = torch.tensor([-0.1, 0.2, 0.4])  # r + value of what comes - value, with nothing of later steps
        hint = ": later surprises count, too, each smoothing times less" if torch.allclose(
            found.float(), one_step, atol=1e-6) else ""
        return f"of rewards {rewards} and values {values} it is {expected.tolist()}, not {found.tolist()}{hint}"


def check_merged(merged):
    layer = LoRALinear(torch.nn.Linear(5, 3), Peft("lora", rank=2, alpha=6.0))
    torch.nn.init.normal_(layer.B)
    found = merged(layer.linear.weight.detach(), layer.A.detach(), layer.B.detach(), 6.0)
    if found.shape != (3, 5) or not torch.allclose(found, layer.weight, atol=1e-6):
        return "W (3, 5), A (2, 5), B (3, 2), alpha 6: it must be W + alpha / rank B A"


if __name__ == "__main__":
    torch.manual_seed(0)
    flags.run(lambda: grade("04_training", globals()))
