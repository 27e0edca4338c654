"""The average of several models."""

import ensemble
import numpy as np
import pytest
import records
import torch
import trainer
from evaluation import evaluate
from for_tests import refuse
from gpt import FAMILIES, GPT, GPTConfig


@pytest.mark.parametrize("length", [2, 9, 100, 131])
def test_probabilities_are_those_whose_loss_evaluate_gives(length):
    torch.manual_seed(0)
    model = GPT(GPTConfig(20, 16, 8, 2, 1, **FAMILIES["llama"])).train()
    tokens = np.random.default_rng(0).integers(20, size=length).astype(np.uint16)
    said = ensemble.probabilities(model, torch.float32, tokens, rows=3)
    assert said.shape == (length - 1,)
    assert -said.log().mean().item() == pytest.approx(evaluate(model, tokens, 3, 8), rel=1e-5)


@pytest.mark.slow
def test_no_models_are_refused():
    assert "models 0 must be at least 1" in refuse("04_training/ensemble.py", "--models", 0)


def test_a_run_that_ctrl_c_ended_is_no_result(monkeypatch):
    text = np.arange(400, dtype=np.uint16) % 7
    monkeypatch.setattr(records, "characters", lambda name: (text, text, 7))
    monkeypatch.setattr(trainer, "train", lambda *words, **settings: None)
    with pytest.raises(KeyboardInterrupt):
        records.trained("sprint", 1)
