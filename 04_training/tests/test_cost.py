"""Operations are counted as papers count them."""

import cost
import pytest
import torch
from for_tests import refuse, succeed
from gpt import FAMILIES, GPT, GPTConfig


@pytest.mark.parametrize("family", FAMILIES)
def test_flops_are_six_for_each_weight_of_a_matrix_and_those_of_attention(family):
    V, C, T, L = 100, 32, 16, 2
    model = GPT(GPTConfig(V, C, T, 4, L, **FAMILIES[family]))
    matrices = sum(w.numel() for w in model.blocks.parameters() if w.dim() == 2) + V * C
    # scores and their use: 2 products of 2 T C operations for each token and layer, and twice as many backward
    assert cost.flops_per_token(model, T) == pytest.approx(6 * matrices + 12 * L * T * C, rel=1e-6)
    assert all(w.grad is None for w in model.parameters())


def test_matrix_speed_is_a_speed():
    assert 1e8 < cost.matrix_speed(torch.device("cpu"), torch.float32, size=256, rounds=3) < 1e15


@pytest.mark.slow
def test_gpt2_on_paper():
    out = succeed("04_training/cost.py")
    assert "124,439,808 parameters, 0.854 GFLOP per token" in out and out.count("GPU hours") == 4
    assert "must be more than 0" in refuse("04_training/cost.py", "--tokens", 0)
