"""Mixture of experts: many feed-forward layers, of which each token runs through a few.

Shapes: N tokens, C = embedding size, E experts, of which each token takes k.
"""

import torch
from torch import nn


class MixtureOfExperts(nn.Module):
    """x (..., C) -> (..., C): the k experts with the highest scores, weighted by these, and the shared one, if any.

    `balance` says what keeps the experts equally busy. "loss": an extra loss, `balance_loss` after each forward in
    training, which the model adds to its own. "bias": a number for each expert is added to its scores when the k are
    chosen, and moves a little up or down in each forward in training; no gradient is disturbed. None: nothing.
    `load` is the share of the last tokens' choices that fell on each expert (E,).
    Shazeer et al. 2017, "Outrageously Large Neural Networks", section 2.1; the loss: Fedus, Zoph and Shazeer 2021,
    "Switch Transformers", equations 4 to 6; the bias, the sigmoid and the shared expert: DeepSeek-AI 2024,
    "DeepSeek-V3", equations 12 to 16.
    """

    def __init__(self, embedding_size, experts, experts_per_token, shared=None, balance="loss", loss_weight=0.01,
                 bias_step=0.001):
        super().__init__()
        if not 0 < experts_per_token <= len(experts):
            raise ValueError(f"experts_per_token {experts_per_token} must be from 1 to expert_count {len(experts)}")
        self.gate = nn.Linear(embedding_size, len(experts), bias=False)
        self.experts = nn.ModuleList(experts)
        self.shared = shared
        self.experts_per_token, self.balance = experts_per_token, balance
        self.loss_weight, self.bias_step = loss_weight, bias_step
        self.register_buffer("bias", torch.zeros(len(experts)))
        self.register_buffer("load", torch.zeros(len(experts)), persistent=False)
        self.balance_loss = 0.0

    def choose(self, x):
        """x (N, C) -> the scores of all experts (N, E), the chosen k (N, k), their weights (N, k), of sum 1."""
        affinity = self.gate(x).float()
        scores = affinity.sigmoid() if self.balance == "bias" else affinity.softmax(-1)
        chosen = (scores + self.bias).topk(self.experts_per_token).indices
        weights = scores.gather(-1, chosen)
        if self.experts_per_token > 1:  # one alone would always weigh 1, and the gate would learn nothing
            weights = weights / weights.sum(-1, keepdim=True)
        return scores, chosen, weights

    def forward(self, x):
        flat = x.flatten(0, -2)  # (N, C)
        scores, chosen, weights = self.choose(flat)
        counts = torch.bincount(chosen.flatten(), minlength=len(self.experts))  # (E,)
        self.load = counts / counts.sum()
        if self.training:
            self.keep_balance(scores)
        # choices sorted by expert: each expert runs once, on its own tokens only
        order = chosen.flatten().argsort()  # (N k,)
        rows, shares = order // self.experts_per_token, weights.flatten()[order, None]
        y = torch.zeros_like(flat) if self.shared is None else self.shared(flat)
        for expert, of_token, share in zip(self.experts, rows.split(counts.tolist()), shares.split(counts.tolist())):
            y = y.index_add(0, of_token, (expert(flat[of_token]) * share).to(y.dtype))
        return y.view_as(x)

    def keep_balance(self, scores):
        E = len(self.experts)
        if self.balance == "loss":
            # E sum_i f_i P_i: the share of choices times the mean probability, 1 if all experts are alike
            self.balance_loss = self.loss_weight * E * (self.load * scores.mean(0)).sum()
        elif self.balance == "bias":
            self.bias += self.bias_step * (1 / E - self.load).sign()
