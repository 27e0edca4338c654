"""The baseline of the speed record: what nanoGPT's code and papers say of it, and its script."""

import math
import re

import nanogpt_recipe
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from for_tests import refuse, shared, succeed


def test_the_model_has_nanogpts_parameters():
    model = nanogpt_recipe.nanogpt_model(65, seed=0)
    # its train.py reports "number of parameters: 0.80M", those of the positions left out
    assert model.parameter_count() - 64 * 128 == 65 * 128 + 4 * (12 * 128 * 128 + 2 * 128) + 128 == 795_904
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            expected = 0.02 / math.sqrt(8) if "projection" in name else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.05), name
    ids, targets = torch.randint(65, (2, 4, 64))
    loss = F.cross_entropy(model(ids)[0].flatten(0, 1), targets.flatten()).item()
    assert loss == pytest.approx(math.log(65), abs=0.1), "it must begin by knowing nothing"


def test_the_model_can_have_other_sizes():
    model = nanogpt_recipe.nanogpt_model(65, 0, 96, block_size=32, head_count=6, layer_count=3)
    assert model.parameter_count() == (65 + 32) * 96 + 3 * (12 * 96 * 96 + 2 * 96) + 96
    assert model.config.head_count == 6 and model(torch.zeros(1, 32, dtype=torch.long))[0].shape == (1, 32, 65)


def test_gelu_is_the_exact_one():
    layer = nanogpt_recipe.nanogpt_model(65, seed=0).blocks[0].feed_forward
    x = torch.randn(3, 128)
    expected = torch.nn.GELU()(x @ layer.expand.weight.T * 50) @ layer.projection.weight.T
    assert torch.allclose(layer(x * 50), expected, atol=1e-6), "is it the approximation by tanh?"


def test_rate_rises_for_100_steps_and_falls_to_a_tenth():
    rates = [nanogpt_recipe.nanogpt_rate(step) for step in range(2001)]
    assert rates[0] == pytest.approx(1e-3 / 101) and rates[99] == pytest.approx(1e-3 * 100 / 101)
    assert max(rates) == rates[100] == pytest.approx(1e-3) and rates[2000] == pytest.approx(1e-4)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1900, eta_min=1e-4)
    for step in range(100, 2000):
        assert rates[step] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        cosine.step()


def test_a_step_clips_decays_and_descends():
    model = nanogpt_recipe.nanogpt_model(65, seed=0)
    optimizer = nanogpt_recipe.nanogpt_optimizer(model)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (0.0 if "norm" in name else 0.1), name
    norms = []
    optimizer.register_step_pre_hook(lambda *_: norms.append(
        torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()))
    ids = torch.arange(65)[None, :64]
    losses = [nanogpt_recipe.nanogpt_step(model, optimizer, ids, ids + 1, 1e-3) for _ in range(30)]
    assert norms[0] == pytest.approx(1, abs=1e-3), "is the norm of the whole gradient clipped to 1?"
    assert losses[0] > 4 and losses[-1] < 1.5


@pytest.mark.slow
def test_the_same_seed_gives_the_same_loss_and_it_is_that_of_real_text():
    text = shared("tinyshakespeare/input.txt").read_text(encoding="utf-8")
    _, ids = np.unique(list(text), return_inverse=True)
    runs = [nanogpt_recipe.nanogpt_run(ids[:100_000], ids[-2000:], seed, steps=40) for seed in (1, 1, 2)]
    assert runs[0][1] == runs[1][1] != runs[2][1]
    assert 2.5 < runs[0][1] < 3.4 and runs[0][0] > 0  # of unigrams: 3.3


def test_characters_are_split_at_nine_tenths(tmp_path):
    (tmp_path / "a.txt").write_text("ba" * 500, encoding="utf-8")
    train_tokens, val_tokens, vocab_size = nanogpt_recipe.characters(tmp_path / "a.txt")
    assert (len(train_tokens), len(val_tokens), vocab_size) == (900, 100, 2) and train_tokens[:2].tolist() == [1, 0]


@pytest.mark.slow
def test_script(tmp_path):
    (tmp_path / "a.txt").write_text("to be or not " * 100, encoding="utf-8")
    out = succeed("04_training/nanogpt_recipe.py", "-d", "a.txt", "--steps", "60", cwd=tmp_path,
                  OMP_NUM_THREADS="1")
    loss = re.fullmatch(r"60 steps in [\d.]+ s: loss (\d\.\d{3}) on all 130 validation characters\n", out)
    assert loss and float(loss[1]) < 1.9, out  # ln(8) = 2.08 is what knowing nothing costs


@pytest.mark.slow
def test_script_refuses_in_one_line(tmp_path):
    assert "steps 0 must be more than 0" in refuse("04_training/nanogpt_recipe.py", "--steps", "0")
    (tmp_path / "b.txt").write_text("too short", encoding="utf-8")
    assert "at least 640" in refuse("04_training/nanogpt_recipe.py", "-d", tmp_path / "b.txt")
