"""The losses of preferences, distillation and PPO beside TRL's own functions, called with the same numbers."""

from types import SimpleNamespace

import distill
import dpo
import pytest
import rollouts
import torch
from for_tests import oracle

CPU = SimpleNamespace(device=torch.device("cpu"))


@pytest.fixture
def logps():
    """Log-probabilities of chosen and rejected answers (5,): the policy's, then the reference's."""
    return -20 * torch.rand(4, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "theirs"), [("dpo", "sigmoid"), ("ipo", "ipo")])
def test_dpo_and_ipo(logps, kind, theirs):
    trainer = oracle("trl.trainer.dpo_trainer").DPOTrainer
    settings = SimpleNamespace(accelerator=CPU, reference_free=False, f_divergence_type=None, beta=0.3,
                               label_smoothing=0.0)
    expected, chosen, rejected = trainer.dpo_loss(settings, *logps, loss_type=theirs)
    gained = logps[:2] - logps[2:]
    assert torch.allclose(dpo.preference_loss(kind, gained[0] - gained[1], 0.3), expected, rtol=1e-5)
    assert torch.allclose(0.3 * gained, torch.stack([chosen, rejected])), "the implicit rewards"


def test_simpo(logps):
    trainer = oracle("trl.trainer.cpo_trainer").CPOTrainer
    settings = SimpleNamespace(accelerator=CPU, alpha=0.0, loss_type="simpo", beta=2.5, simpo_gamma=dpo.SIMPO_MARGIN,
                               label_smoothing=0.0)
    expected, _, _ = trainer.cpo_loss(settings, *logps[:2])
    assert torch.allclose(dpo.preference_loss("simpo", logps[0] - logps[1], 2.5), expected, rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_divergence_of_a_student(beta, temperature):
    """A batch of one row of 7 tokens, 11 in the vocabulary; TRL's mean is over the tokens here."""
    theirs = oracle("trl.trainer.gkd_trainer").GKDTrainer.generalized_jsd_loss
    student, teacher = torch.randn(2, 7, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = theirs(student, teacher, beta=beta, temperature=temperature, reduction="sum")
    ours = distill.divergence(student / temperature, teacher / temperature, beta)
    assert ours.sum().item() == pytest.approx(expected.item(), rel=1e-6)


def test_whitening():
    """TRL divides the squares by n - 1, we by n."""
    theirs = oracle("trl.core").masked_whiten
    x, mask = torch.randn(3, 9), torch.arange(9) < torch.tensor([[9], [4], [1]])
    n = mask.sum()
    assert torch.allclose(rollouts.whitened(x, mask)[mask], theirs(x, mask)[mask] * (n / (n - 1)).sqrt(), atol=1e-5)
