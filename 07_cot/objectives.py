"""What a chain's tokens weigh in the loss, and a second head: the roadmap's reasoning-specific losses.

    ChainLoss(model)                                       # the plain loss, of what the model has to write
    ChainLoss(model, result_weight=3, answer_weight=3, second_head=0.3)

"Logical consistency" is result_weight: a step follows from the results before it, so these must be right. "Reasoning
chain formation" is second_head: it makes a model see further than the next token. answer_weight is for what is asked.
Shapes: B texts, T tokens.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from linear_cross_entropy import linear_cross_entropy
from multi_token import MultiTokenPrediction

PLAIN, RESULT, ANSWER = 0, 1, 2  # kinds of tokens


def kinds_of(chain):
    """The kind of each character of a chain, and of the end: results stand between = and ;, the answer after #.

    "3*9=7;#7" -> [0, 0, 0, 0, 1, 1, 0, 2, 2]
    """
    kinds, now = [], PLAIN
    for character in chain:
        kinds.append(now)
        now = {"=": RESULT, "#": ANSWER}.get(character, PLAIN if character == ";" else now)
    return [*kinds, now]


class ChainLoss(nn.Module):
    """A GPT in training: ids, targets and kinds (B, T) -> (None, loss), the weighted mean over targets that count.

    second_head is the weight of multi-token prediction: DeepSeek-AI 2024, "DeepSeek-V3 Technical Report", section 2.2.
    """

    weights: torch.Tensor  # (3,): of each kind of character

    def __init__(self, model, result_weight=1.0, answer_weight=1.0, second_head=0.0):
        super().__init__()
        self.model = MultiTokenPrediction(model, second_head) if second_head else model
        self.config = model.config
        self.register_buffer("weights", torch.tensor([1.0, result_weight, answer_weight]), persistent=False)

    @property
    def second(self):
        return isinstance(self.model, MultiTokenPrediction)

    def beside(self):
        """The weights of the second head, for a checkpoint."""
        return {f"model.{name}": w for name, w in self.model.beside().items()} if self.second else {}

    def forward(self, ids, targets, kinds):
        model = self.model.model if isinstance(self.model, MultiTokenPrediction) else self.model
        hidden, counted = model.hidden(ids), targets != -100
        weights = self.weights[kinds[counted]]
        losses = F.cross_entropy(model.head(hidden[counted]).float(), targets[counted], reduction="none")
        loss = (weights * losses).sum() / weights.sum()
        if self.second:
            following = torch.where(counted[:, :-1], targets[:, 1:], -100)
            after = self.model.hidden_after(hidden[:, :-1], targets[:, :-1].clamp(min=0))
            loss = loss + self.model.weight * linear_cross_entropy(after, model.head_weight, following)
        return None, loss
