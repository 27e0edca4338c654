"""The exercises of README.md: functions to write, and a check of each.

    python 02_attention/exercises.py answers_02.py      # writes the file, to be filled; checks it once it is there
"""

import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from answers import grade
from attend import attend, causal_mask
from formulas import attention_weights
from positions import Rotary, rotary_frequencies


def same(found, expected):
    return found.shape == expected.shape and torch.allclose(found, expected, atol=1e-5)


def check_causal_weights(causal_weights):
    q, k = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    found = causal_weights(q, k)
    if found.isnan().any():
        return "there are NaN in it: a row of which nothing may be seen, or infinity minus infinity"
    if same(found, attention_weights(q * math.sqrt(8), k, causal_mask(5, 5))):
        return "are the scores divided by the root of the head's size?"
    if same(found, attention_weights(q, k)):
        return "the future is not hidden"
    if found.shape == (2, 3, 5, 5) and found.triu(1).abs().max() == 0 and not same(found.sum(-1), torch.ones(2, 3, 5)):
        return "rows don't sum to 1: hide the future before the softmax, not after it"
    if not same(found, attention_weights(q, k, causal_mask(5, 5))):
        return "not the weights of softmax(Q K^T / sqrt(d_k)) below the diagonal"


def check_turn(turn):
    x = torch.randn(8)
    for position in (0, 1, 5):
        expected = Rotary(rotary_frequencies(8), 16, interleaved=True)(x[None], torch.tensor([position]))[0]
        found = turn(x, position)
        if same(found, Rotary(rotary_frequencies(8), 16)(x[None], torch.tensor([position]))[0]) and position:
            return "pairs are numbers 2i and 2i + 1 here, not i and i + hs/2"
        if not same(found, expected):
            given, right, wrong = ([round(value, 3) for value in each.tolist()] for each in (x, expected, found))
            return f"position {position} turns {given} to {right}, not to {wrong}"


def check_grouped(grouped):
    q, k, v = torch.randn(6, 4, 8), torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    expected = attend(q[None], k[None], v[None], fused=False)[0]
    found = grouped(q, k, v)
    if same(found, attend(q[None], k.repeat(3, 1, 1)[None], v.repeat(3, 1, 1)[None], fused=False)[0]):
        return "heads 0, 1, 2 share the first keys, not heads 0, 2, 4: repeat each, not the whole"
    if not same(found, expected):
        return "not what each query head finds with its group's keys and values"


def check_induction_head(induction_head):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randperm(50, generator=generator)[:6].repeat(2)  # six tokens, twice
    for head in (0, 2):
        maps = torch.rand(3, 12, 12, generator=generator).tril()
        for t in range(6, 12):
            maps[head, t, t - 5] = 10.0  # what came after the same token last time
            maps[1, t, t - 6] = 10.0  # the same token: a decoy
        if (found := induction_head(maps / maps.sum(-1, keepdim=True), ids)) != head:
            return f"head {head} looks at what came after the last occurrence of each token, not head {found}"


if __name__ == "__main__":
    torch.manual_seed(0)
    flags.run(lambda: grade("02_attention", globals()))
