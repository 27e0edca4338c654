"""The head and the loss in one, without ever holding the logits of all positions.

With GPT-4o's vocabulary a batch of 64 x 256 positions has 64 x 256 x 200,019 logits: 13 GB, and as
much again for their gradient. But the gradient of the cross-entropy is known in closed form, so a
piece of logits can be turned into its share of all gradients at once, and be forgotten.
"""

import torch
import torch.nn.functional as F

CHUNK_BYTES = 64 * 2**20  # of float32 logits alive at a time


class LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets):
        N, V = len(hidden), len(weight)
        rows = max(1, CHUNK_BYTES // (4 * V))
        counted = (targets != -100).sum().clamp(min=1)
        loss = hidden.new_zeros((), dtype=torch.float32)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for i in range(0, N, rows):
            h, target = hidden[i : i + rows], targets[i : i + rows]
            log_p = F.log_softmax((h @ weight.T).float(), dim=-1)  # (rows, V)
            loss += F.nll_loss(log_p, target, reduction="sum") / counted
            if d_hidden is None and d_weight is None:
                continue
            # d loss / d logits = (softmax(logits) - one_hot(target)) / number of targets
            d_logits = log_p.exp_()
            d_logits[torch.arange(len(h), device=h.device), target.clamp(min=0)] -= 1
            d_logits *= ((target != -100) / counted)[:, None]
            d_logits = d_logits.to(h.dtype)
            if d_hidden is not None:
                d_hidden[i : i + rows] = d_logits @ weight
            if d_weight is not None:
                d_weight += d_logits.T @ h
        ctx.save_for_backward(d_hidden, d_weight)
        return loss

    @staticmethod
    def backward(ctx, d_loss):
        d_hidden, d_weight = (None if gradient is None else gradient * d_loss for gradient in ctx.saved_tensors)
        return d_hidden, d_weight, None


def linear_cross_entropy(hidden, weight, targets):
    """Mean cross-entropy of `hidden @ weight.T` against `targets`; targets of -100 are ignored.

    hidden (..., C), weight (V, C), targets (...) of token ids -> a scalar in float32, the same as
    `F.cross_entropy((hidden @ weight.T).view(-1, V), targets.view(-1))`, and so are its gradients.
    """
    return LinearCrossEntropy.apply(hidden.reshape(-1, hidden.shape[-1]), weight, targets.reshape(-1))
