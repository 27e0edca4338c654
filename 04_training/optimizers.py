"""Optimizers: what is done to the weights once their gradients are known.

AdamW from its equations; Muon, which turns a matrix of gradients before it uses it; and `make_optimizer`, which says
which weights get which. Symbols: g = gradient, w = weights, lr = learning rate, t = step.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from flags import UserError, choose_dtype
from ngram_embedding import NGramEmbedding
from trainer import decay_groups

# of the polynomial a x + b x^3 + c x^5, which takes singular values from 0.01 .. 1 to about 1 when repeated five times
COEFFICIENTS = 3.4445, -4.7750, 2.0315
AT_ONCE = 2**19  # numbers of small matrices turned together: fewer waits of cores for each other, still in their caches


class AdamW(torch.optim.Optimizer):
    """Each weight moves by its mean gradient over the gradient's usual size; decay stays out of both.

    The decay is multiplied by the learning rate, as everywhere but in the paper. The state has torch's names: a
    checkpoint can go on with either.
    Kingma and Ba 2015, "Adam", algorithm 1; Loshchilov and Hutter 2019, "Decoupled Weight Decay", algorithm 2.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for w in group["params"]:
                if w.grad is None:
                    continue
                g, state = w.grad, self.state[w]
                if not state:
                    state.update(step=0, exp_avg=torch.zeros_like(w), exp_avg_sq=torch.zeros_like(w))
                m, v = state["exp_avg"], state["exp_avg_sq"]
                # t = t + 1
                state["step"] += 1
                t = float(state["step"])
                # m = beta1 m + (1 - beta1) g
                m.mul_(beta1).add_((1 - beta1) * g)
                # v = beta2 v + (1 - beta2) g^2
                v.mul_(beta2).add_((1 - beta2) * g.square())
                # both began at 0: m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)
                mean, size = m / (1 - beta1**t), (v / (1 - beta2**t)).sqrt()
                # w = w - lr (m' / (sqrt(v') + eps) + decay w)
                w.sub_(lr * (mean / (size + group["eps"]) + group["weight_decay"] * w))


def orthogonalise(x):
    """Matrices (..., m, n) of singular values S, U S V^T -> U S' V^T with S' near 1: all directions count alike.

    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    a, b, c = COEFFICIENTS
    if x.shape[-2] > x.shape[-1]:
        return orthogonalise(x.mT).mT
    # X / |X|: no singular value is above 1
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT  # (..., m, m)
        # a X + (b X X^T + c (X X^T)^2) X
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def orthogonalise_batch(x):
    """The same for a batch (N, m, n), with fewer and larger products.

    A long matrix is multiplied once at the end, since X_5 = P_5 P_4 P_3 P_2 P_1 X, where each P is a polynomial in the
    Gram matrix of before, P_k = p(G_k) and G_k+1 = P_k G_k P_k, all small (m, m). That needs the digits of float32.
    """
    a, b, c = COEFFICIENTS
    m, n = x.shape[-2:]
    if m > n:
        return orthogonalise_batch(x.mT).mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    if x.dtype == torch.bfloat16 or n < 1.5 * m:
        for _ in range(5):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x
    gram, product = x @ x.mT, None
    for i in range(5):
        p = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        p.diagonal(dim1=-2, dim2=-1).add_(a)
        product = p if product is None else p @ product
        if i < 4:
            gram = p @ gram @ p
    return product @ x


class Muon(torch.optim.Optimizer):
    """Momentum for matrices whose direction is made orthogonal, so that no few of its directions outshout the rest.

    `adjust` makes steps alike for all shapes (m, n): "original" by sqrt(max(1, m / n)), and "match_rms_adamw" by
    0.2 sqrt(max(m, n)), with which AdamW's learning rates fit. A group's `parts` is how many matrices are stacked in
    each of its weights: 3 where queries, keys and values are made by one. `dtype` is that of the products; None is
    bfloat16 where the hardware multiplies it faster, else float32.
    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; decay and match_rms_adamw: Liu et al.
    2025, "Muon is Scalable for LLM Training", section 2.2.
    """

    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.1, adjust="original", dtype=None):
        if adjust not in ("original", "match_rms_adamw"):
            raise UserError(f"no adjust '{adjust}': choose original or match_rms_adamw")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "adjust": adjust,
                                  "dtype": dtype, "parts": 1})
        for group in self.param_groups:
            for w in group["params"]:
                if w.dim() != 2 or len(w) % group["parts"]:
                    raise UserError(f"Muon can't move {group['parts']} matrices in one of {tuple(w.shape)}: take AdamW")
                group["dtype"] = group["dtype"] or choose_dtype("auto", w.device, min(w.shape))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            alike = defaultdict(list)
            for w in group["params"]:
                if w.grad is not None:
                    alike[w.shape, w.dtype, w.device].append(w)
            for weights in alike.values():
                self.move(weights, group)

    def move(self, weights, group):
        """Step with weights (m, n) of the same shape, all at once."""
        lr, momentum, parts = group["lr"], group["momentum"], group["parts"]
        for w in weights:
            if not self.state[w]:
                self.state[w]["momentum_buffer"] = torch.zeros_like(w)
        gradients = [w.grad for w in weights]
        means = [self.state[w]["momentum_buffer"] for w in weights]
        # M = momentum M + (1 - momentum) g
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        # where M would be after the same g once more (Nesterov): D = momentum M + (1 - momentum) g
        directions = torch.stack(torch._foreach_lerp(gradients, means, momentum))  # (N, m, n)
        matrices = directions.unflatten(1, (parts, -1)).flatten(0, 1)  # (N parts, m / parts, n)
        m, n = matrices.shape[-2:]
        batches = matrices.to(group["dtype"]).split(max(1, AT_ONCE // (m * n)))
        turned = torch.cat([orthogonalise_batch(batch) for batch in batches]).to(directions.dtype)
        scale = max(1, m / n) ** 0.5 if group["adjust"] == "original" else 0.2 * max(m, n) ** 0.5
        # w = w - lr (scale O + decay w)
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        torch._foreach_add_(weights, list(turned.view(directions.shape)), alpha=-lr * scale)


class RowwiseAdagrad(torch.optim.Optimizer):
    """For tables with sparse gradients: rows that no token asked for cost nothing, the others one number each.

    A row's steps get shorter as its gradients add up, so that rare ones learn fast and common ones settle.
    Duchi et al. 2011, "Adaptive Subgradient Methods", figure 1; one number for a row: Mudigere et al. 2022,
    "Software-Hardware Co-design for Fast and Scalable Training of Deep Learning Recommendation Models", section 4.
    """

    def __init__(self, params, lr=0.2, eps=1e-10):
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                gradient = w.grad.coalesce()
                rows, g = gradient.indices()[0], gradient.values()  # (N,), (N, C)
                if not self.state[w]:
                    self.state[w]["sum"] = torch.zeros(len(w), dtype=w.dtype, device=w.device)
                # s = s + mean of g^2
                s = self.state[w]["sum"].index_add_(0, rows, g.square().mean(-1))[rows]
                # w = w - lr g / (sqrt(s) + eps)
                w.index_add_(0, rows, g / (s.sqrt() + group["eps"])[:, None], alpha=-group["lr"])


class Together:
    """Several optimizers, each for weights of its own, that look like one."""

    def __init__(self, optimizers):
        self.optimizers = optimizers

    @property
    def param_groups(self):
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def state_dict(self):
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state):
        for optimizer, its_own in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(its_own)


def make_optimizer(model, kind, learning_rate, weight_decay=0.1, betas=(0.9, 0.95), adamw_share=1.0, table_rate=0.16):
    """An optimizer of all weights of a GPT (if it is to be wrapped, before that); matrices decay, the rest does not.

    "adamw" is torch's, "plain_adamw" ours, "sgd" has momentum betas[0]. "muon" moves the matrices of the blocks, and
    AdamW, at `adamw_share` times the learning rate (the groups' "lr_scale"), all else: embeddings, head, norms, biases.
    With any of them the table of n-grams, if there is one, has RowwiseAdagrad, whose rate is its own.
    """
    table = next((part.table for part in model.modules() if isinstance(part, NGramEmbedding)), None)
    if table is not None:
        table.sparse = True
    rest = [w for w in model.parameters() if table is None or w is not table.weight]
    optimizers: list[torch.optim.Optimizer]
    if kind == "muon":
        # of the blocks, in whatever they are wrapped: "model.blocks.0.attention", a second head's "block.attention"
        matrices = {w: name for name, w in model.named_parameters() if w.dim() == 2 and re.search(r"\bblocks?\.", name)}
        joined = [w for w, name in matrices.items() if name.endswith("query_key_value.weight")]
        single = [w for w, name in matrices.items() if not name.endswith("query_key_value.weight")]
        groups = [{"params": single, "parts": 1}, {"params": joined, "parts": 3}]
        optimizers = [Muon(groups, learning_rate, weight_decay=weight_decay, adjust="match_rms_adamw")]
        others = decay_groups([w for w in rest if w not in matrices], weight_decay, lr_scale=adamw_share)
        optimizers.append(torch.optim.AdamW(others, learning_rate * adamw_share, betas, fused=True))
    elif kind == "adamw":
        optimizers = [torch.optim.AdamW(decay_groups(rest, weight_decay), learning_rate, betas, fused=True)]
    elif kind == "plain_adamw":
        optimizers = [AdamW(decay_groups(rest, weight_decay), learning_rate, betas)]
    elif kind == "sgd":
        optimizers = [torch.optim.SGD(decay_groups(rest, weight_decay), learning_rate, momentum=betas[0])]
    else:
        raise UserError(f"no optimizer '{kind}': choose adamw, plain_adamw, muon or sgd")
    if table is not None:
        group = {"params": [table.weight], "lr_scale": table_rate / learning_rate}
        optimizers.append(RowwiseAdagrad([group], table_rate))
    return optimizers[0] if len(optimizers) == 1 else Together(optimizers)
