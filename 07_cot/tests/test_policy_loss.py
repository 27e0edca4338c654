"""GRPO's advantages and losses, and its variants', against papers and TRL."""

from collections import defaultdict
from types import SimpleNamespace

import policy_loss
import pytest
import torch
from for_tests import oracle
from policy_loss import VARIANTS, PolicyLoss, advantages, token_weights

TWO_OF_EIGHT = torch.tensor([[1.0, 0, 0, 1, 0, 0, 0, 0]])


def test_advantages_of_the_known_example():
    better, worse = 1.73165, -0.57722
    assert advantages(TWO_OF_EIGHT)[0, :2].tolist() == pytest.approx([better, worse], abs=1e-5), "population std"
    found = advantages(TWO_OF_EIGHT, "sample")[0, :2].tolist()
    assert found == pytest.approx([1.6198, -0.5399], abs=1e-4), "sample std, as in TRL"
    assert advantages(TWO_OF_EIGHT, "none")[0, :2].tolist() == [0.75, -0.25]


@pytest.mark.parametrize("std", policy_loss.STDS)
def test_equal_rewards_have_no_advantage(std):
    rewards = torch.tensor([[1.0] * 8, [0.0] * 8])
    assert advantages(rewards, std).abs().sum() == 0


def test_leave_one_out_and_the_std_of_a_batch():
    rewards = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 1]])
    others = advantages(rewards, "none", "others")
    for q in range(2):
        for g in range(4):
            rest = [rewards[q, other].item() for other in range(4) if other != g]
            assert others[q, g].item() == pytest.approx(rewards[q, g].item() - sum(rest) / 3, abs=1e-6)
    centred = rewards - rewards.mean(1, keepdim=True)
    assert torch.allclose(advantages(rewards, "batch"), centred / (centred.square().mean().sqrt() + 1e-4), atol=1e-5)


class Known(PolicyLoss):
    """The loss where the log-probabilities (B, T) are given, and no model is asked."""

    def __init__(self, said, **settings):
        super().__init__(torch.nn.Identity(), **settings)
        self.said = said

    def look(self, ids, targets):
        return self.said[targets != -100]


@pytest.fixture
def numbers():
    """Five chains of 7 tokens at most: log-probabilities now, before, of the reference; advantages; which count."""
    generator = torch.Generator().manual_seed(0)
    said = -3 * torch.rand(5, 7, generator=generator)
    old, reference = (said + 0.4 * torch.randn(5, 7, generator=generator) for _ in range(2))
    mask = torch.arange(7) < torch.tensor([[7], [1], [4], [6], [2]])
    return said.requires_grad_(), old, reference, torch.randn(5, generator=generator), mask


def ours(numbers, average, budget=9, **settings):
    said, old, reference, better, mask = numbers
    targets = torch.where(mask, 1, -100)
    loss = Known(said, **settings)
    return loss(targets, targets, old, better[:, None].expand(5, 7), token_weights(targets, average, budget),
                reference)[1]


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize(("average", "theirs"), [
    ("chains", "grpo"), ("tokens", "bnpo"), ("tokens", "dapo"), ("budget", "dr_grpo")])
def test_losses_and_gradients_are_those_of_trl(numbers, average, theirs, ratio, beta):
    said, old, reference, better, mask = numbers
    loss_of = oracle("trl.trainer.grpo_trainer").GRPOTrainer._compute_loss
    settings = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *args, **more: (said, torch.zeros_like(said)), beta=beta,
        top_entropy_quantile=1.0, importance_sampling_level=ratio, epsilon_low=0.1, epsilon_high=0.28,
        args=SimpleNamespace(delta=None), use_vllm=False, loss_type=theirs, current_gradient_accumulation_steps=1,
        max_completion_length=9, accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x),
        model=SimpleNamespace(training=True), _metrics=defaultdict(lambda: defaultdict(list)))
    ids = torch.ones(5, 7, dtype=torch.long)
    inputs = {"prompt_ids": ids, "prompt_mask": ids, "completion_ids": ids, "completion_mask": mask.int(),
              "advantages": better, "old_per_token_logps": old, "ref_per_token_logps": reference,
              "num_items_in_batch": mask.sum()}
    expected = loss_of(settings, None, inputs)
    found = ours(numbers, average, ratio=ratio, clip_low=0.1, clip_high=0.28, beta=beta)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    mine, other = (torch.autograd.grad(each, said)[0] for each in (found, expected))
    assert torch.allclose(mine, other, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_by_hand(numbers, variant):
    """Token by token, from the formulas of the papers."""
    said, old, _, better, mask = numbers
    told = VARIANTS[variant]
    low, high = 1 - told["clip_low"], 1 + told["clip_high"]
    sums, lengths = [], mask.sum(1).tolist()
    for b, length in enumerate(lengths):
        ratios = (said[b, :length] - old[b, :length]).exp().tolist()
        if variant == "gspo":
            ratios = [torch.tensor(ratios).log().mean().exp().item()] * length
        A = better[b].item()
        sums.append(sum(min(r * A, min(max(r, low), high) * A) for r in ratios))
    expected = {"grpo": sum(total / length for total, length in zip(sums, lengths)) / 5,
                "dapo": sum(sums) / sum(lengths), "dr_grpo": sum(sums) / (5 * 9)}
    expected |= {"gspo": expected["grpo"], "rloo": expected["dr_grpo"], "reinforce++": expected["dapo"]}
    settings = {name: told[name] for name in ("ratio", "clip_low", "clip_high")}
    assert ours(numbers, told["average"], **settings).item() == pytest.approx(-expected[variant], rel=1e-4)


@pytest.mark.parametrize(("better", "shift", "still"), [
    (1.0, 0.5, True), (1.0, -0.5, False), (-1.0, -0.5, True), (-1.0, 0.5, False), (1.0, 0.1, False)])
def test_beyond_the_clip_on_the_good_side_nothing_more_is_gained(better, shift, still):
    said, targets = torch.full((1, 3), -1.0, requires_grad=True), torch.ones(1, 3, dtype=torch.long)
    loss = Known(said)(targets, targets, said.detach() - shift, torch.full((1, 3), better), torch.ones(1, 3),
                       torch.zeros(1, 3))[1]
    assert (torch.autograd.grad(loss, said)[0].abs().sum() == 0) == still
