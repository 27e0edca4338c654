"""The head and the loss in one, without ever holding the logits of all positions.

With GPT-4o's vocabulary a batch of 64 x 256 positions has 64 x 256 x 200,019 logits: 13 GB, and as
much again for their gradient. But the gradient of the cross-entropy is known in closed form, so a
chunk of logits can be turned into its share of all gradients at once, and be forgotten.
"""

import torch

CHUNK_BYTES = 84 * 2**20  # of logits alive at a time


class LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets):
        bytes_of_logit = 4 if hidden.dtype == torch.float32 else 6  # in float32, and their gradient in half
        rows = max(1, CHUNK_BYTES // (bytes_of_logit * len(weight)))
        share = 1 / max(1, len(targets))  # what each position is of the mean
        loss = torch.zeros((), device=hidden.device)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_weight = None
        for i in range(0, len(hidden), rows):
            h, target = hidden[i : i + rows], targets[i : i + rows, None]
            logits = (h @ weight.T).float()  # (rows, V)
            logits -= logits.amax(dim=-1, keepdim=True)
            of_target = logits.gather(1, target)
            # cross-entropy = log(sum of e^logits) - logit of the target
            total = logits.exp_().sum(dim=-1, keepdim=True)
            loss += (total.log() - of_target).sum() * share
            if not any(ctx.needs_input_grad):
                continue
            # d loss / d logits = (softmax(logits) - one_hot(target)) x share of the mean
            d_logits = logits.mul_(share / total)
            d_logits.scatter_add_(1, target, d_logits.new_full(target.shape, -share))
            d_logits = d_logits.to(h.dtype)
            if d_hidden is not None:
                d_hidden[i : i + rows] = d_logits @ weight
            if not ctx.needs_input_grad[1]:
                continue
            if d_weight is None:
                d_weight = (d_logits.T @ h).to(weight.dtype)
            elif torch.is_autocast_enabled(h.device.type):
                d_weight += d_logits.T @ h  # in bfloat16, which addmm would not be
            else:
                torch.addmm(d_weight, d_logits.T, h, out=d_weight)
        ctx.gradients = d_hidden, d_weight
        return loss

    @staticmethod
    def backward(ctx, d_loss):
        gradients, ctx.gradients = ctx.gradients, None  # scaled in place: a copy would be as large as the vocabulary
        if gradients is None:
            raise RuntimeError("the gradients of this loss were taken already: compute the loss again")
        d_hidden, d_weight = (None if gradient is None else gradient.mul_(d_loss) for gradient in gradients)
        return d_hidden, d_weight, None


def linear_cross_entropy(hidden, weight, targets):
    """Mean cross-entropy of `hidden @ weight.T` against `targets`; targets of -100 are ignored.

    hidden (..., C), weight (V, C), targets (...) of token ids -> a scalar in float32, the same as
    `F.cross_entropy((hidden @ weight.T).view(-1, V), targets.view(-1))`, and so are its gradients.
    """
    hidden, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    counted = targets != -100
    if type(targets) is torch.Tensor and not counted.all():  # no logits of what is not asked for; fakes can't tell
        hidden, targets = hidden[counted], targets[counted]
    return LinearCrossEntropy.apply(hidden, weight, targets)
