"""How a model writes: one token at a time, each drawn from what it thinks likely."""

import torch


def top_k_filter(logits, k):
    """Keep the k highest logits of each row (B, V), the others become -inf."""
    if k >= logits.shape[-1]:
        return logits
    kth = logits.topk(k).values[:, -1:]
    return logits.masked_fill(logits < kth, -torch.inf)


def top_p_filter(logits, p):
    """Keep the likeliest tokens until they hold probability p: always at least one.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", equation 2.
    """
    ordered, order = logits.sort(descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # what the likelier tokens hold together
    return logits.scatter(-1, order, ordered.masked_fill(before >= p, -torch.inf))


@torch.no_grad()
def generate(model, ids, max_new_tokens, temperature=1.0, top_k=None, top_p=None):
    """Continue each row of ids (B, T) by max_new_tokens -> (B, T + max_new_tokens).

    Temperature 0 takes the likeliest token each time. Beyond the model's block_size the oldest
    tokens are forgotten.
    """
    training = model.training
    model.eval()
    for _ in range(max_new_tokens):
        hidden = model.hidden(ids[:, -model.config.block_size :])
        logits = model.head(hidden[:, -1]).float()  # (B, V)
        if temperature == 0:
            chosen = logits.argmax(-1, keepdim=True)
        else:
            logits = logits / temperature
            if top_k is not None:
                logits = top_k_filter(logits, top_k)
            if top_p is not None:
                logits = top_p_filter(logits, top_p)
            chosen = torch.multinomial(logits.softmax(-1), num_samples=1)
        ids = torch.cat([ids, chosen], dim=1)
    model.train(training)
    return ids
