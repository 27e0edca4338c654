"""GRPO's advantages and loss, and its variants, each a line of other settings.

A group is all chains that were drawn for one question. What is better than its group becomes likelier, what is worse
less likely: the group takes the place of the values that PPO (04_training/ppo.py) has to learn.
Shapes: Q questions, G chains of each, B = Q G chains, T tokens, n tokens of chains.
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from rollouts import log_probabilities

# Shao et al. 2024, "DeepSeekMath", section 4.1
GRPO = {"baseline": "group", "std": "population", "average": "chains", "ratio": "token", "clip_low": 0.2,
        "clip_high": 0.2, "dynamic": False}
VARIANTS = {
    "grpo": GRPO,
    # Liu et al. 2025, "Understanding R1-Zero-Like Training": hard questions and long chains count like all others
    "dr_grpo": GRPO | {"std": "none", "average": "budget"},
    # Yu et al. 2025, "DAPO": each token counts alike, rare ones may grow more, and groups without signal are replaced
    "dapo": GRPO | {"average": "tokens", "clip_high": 0.28, "dynamic": True},
    # Zheng et al. 2025, "Group Sequence Policy Optimization": a chain is one action
    "gspo": GRPO | {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    # Ahmadian et al. 2024, "Back to Basics": each chain against the others
    "rloo": GRPO | {"baseline": "others", "std": "none", "average": "budget"},
    # Hu et al. 2025, "REINFORCE++", with a group's mean as baseline: the unit of advantages is that of the whole batch
    "reinforce++": GRPO | {"std": "batch", "average": "tokens"},
}
STDS = ("population", "sample", "batch", "none")


def advantages(rewards, std="population", baseline="group"):
    """Rewards (Q, G) -> how much better each chain is than its group, (Q, G). A group of equal rewards has 0.

    (r - mean) / (std + 1e-4); 2 right ones of 8 have 1.73165 and -.57722. The "sample" std is that of G - 1, as TRL has
    it. "others": the baseline is the mean of the other chains.
    """
    better = rewards - rewards.mean(1, keepdim=True)
    if baseline == "others":
        better = better * rewards.shape[1] / (rewards.shape[1] - 1)
    if std == "none":
        return better
    spread = better.std(correction=0) if std == "batch" else rewards.std(1, keepdim=True, correction=std == "sample")
    return better / (spread + 1e-4)


def token_weights(targets, average, budget):
    """(B, T): what each token counts, so that the mean over tokens is the average that is meant.

    "chains": each chain alike, whatever its length; "tokens": each token alike; "budget": the sum over tokens, divided
    by the most that there could be, B times `budget`.
    """
    counted = targets != -100
    tokens, lengths = counted.sum(), counted.sum(1, keepdim=True)
    weight = {"chains": tokens / (len(targets) * lengths), "tokens": torch.ones(len(targets), 1),
              "budget": tokens / (len(targets) * budget) * torch.ones(len(targets), 1)}[average]
    return weight * counted


class PolicyLoss(nn.Module):
    """A GPT in reinforcement learning: -mean of min(r A, clip(r) A) - beta KL. Shao et al. 2024, equations 3 and 4."""

    def __init__(self, model, ratio="token", clip_low=0.2, clip_high=0.2, beta=0.0):
        super().__init__()
        self.model, self.ratio, self.beta = model, ratio, beta
        self.least, self.most = 1 - clip_low, 1 + clip_high
        self.seen = []  # (tokens, and sums over them of: KL to the rollout's policy, clipped ones) of each piece
        self.eval()

    def train(self, mode=True):
        """Never with dropout: log-probabilities are compared."""
        return super().train(False)

    def look(self, ids, targets):
        """The log-probability of each target that counts, (n,)."""
        return log_probabilities(self.model, ids, targets)[0].gather(1, targets[targets != -100][:, None])[:, 0]

    def forward(self, ids, targets, old, advantage, weight, reference):
        """All (B, T): how likely the rollout's policy and the reference found each target, what it is worth, and what
        it counts (token_weights) -> (None, loss).
        """
        counted = targets != -100
        rows = counted.nonzero()[:, 0]  # of each token that counts, its chain
        old, advantage, weight, reference = (part[counted] for part in (old, advantage, weight, reference))
        said = self.look(ids, targets)
        change = said - old
        if self.ratio == "sequence":
            # s_i = exp(mean of log pi / pi_old over the chain's tokens): Zheng et al. 2025, equation 7
            sums = torch.zeros(len(ids), device=ids.device).index_add(0, rows, change)
            change = (sums / counted.sum(1).clamp(min=1))[rows]
        ratio = change.exp()
        clipped = ratio.clamp(self.least, self.most)
        gain = torch.min(ratio * advantage, clipped * advantage)
        if self.beta:
            # KL = ref / pi - 1 - log ref / pi: equation 4, which is k3 of Schulman 2020
            gain = gain - self.beta * ((reference - said).exp() - 1 - (reference - said))
        with torch.no_grad():
            moved = (said - old).exp() - 1 - (said - old)
            self.seen.append([len(said), moved.sum().item(), (clipped != ratio).sum().item()])
        return None, -(weight * gain).sum() / len(said)
