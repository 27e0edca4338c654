"""What is done to a model's scores before a token is drawn: each filter takes logits (B, V) and returns others.

A token that becomes -inf is never drawn. Filters that look back also take the texts so far, ids (B, T), in
which -1 stands where a shorter text has not begun.
"""

import torch


def keep_top_k(logits, k):
    """Keep the k highest logits of each row, and what equals the last of them.

    Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.4.
    """
    if k >= logits.shape[-1]:
        return logits
    kth = logits.topk(k).values[:, -1:]
    return logits.masked_fill(logits < kth, -torch.inf)


def keep_top_p(logits, p):
    """Keep the likeliest tokens until they hold probability p: always at least one.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", equation 2.
    """
    ordered, order = logits.sort(descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # what the likelier tokens hold together
    return logits.scatter(-1, order, ordered.masked_fill(before >= p, -torch.inf))


def keep_min_p(logits, p):
    """Keep the tokens that have at least the share p of the likeliest one's probability.

    Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs", section 3.
    """
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), -torch.inf)


def tokens_in(ids, vocab_size):
    """Which tokens occur in each row: vocabulary of 4, [[2, 0, 2], [-1, -1, 3]] -> [[1, 0, 1, 0], [0, 0, 0, 1]]."""
    occurs = torch.zeros(len(ids), vocab_size + 1, dtype=torch.bool, device=ids.device)
    return occurs.scatter(1, ids % (vocab_size + 1), True)[:, :vocab_size]  # -1 goes to the last column


def penalize_repetition(logits, ids, penalty):
    """Make every token that the text has already less likely: divide its logit, or multiply it where it is negative.

    Keskar et al. 2019, "CTRL: A Conditional Transformer Language Model", section 4.1. As published it divides
    negative logits, too, which makes them likelier; this is how transformers mended it.
    """
    penalized = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(tokens_in(ids, logits.shape[-1]), penalized, logits)


def ban_repeated_ngrams(logits, ids, n):
    """Forbid each token with which the last n tokens would be n tokens that the text has already.

    With n = 2, after 5 6 7 5 comes no 6. Where nothing would be left to say, nothing is forbidden.
    Paulus et al. 2018, "A Deep Reinforced Model for Abstractive Summarization", section 2.5.
    """
    if ids.shape[1] < n:
        return logits
    ngrams = ids.unfold(1, n, 1)  # (B, T - n + 1, n)
    newest = ids[:, ids.shape[1] - (n - 1) :]  # (B, n - 1)
    begun_again = (ngrams[..., :-1] == newest[:, None]).all(-1)  # (B, T - n + 1)
    endings = ngrams[..., -1].masked_fill(~begun_again, -1)
    left = logits.masked_fill(tokens_in(endings, logits.shape[-1]), -torch.inf)
    return torch.where(left.isneginf().all(-1, keepdim=True), logits, left)


def ban(logits, tokens):
    """Forbid some tokens, such as the end of a text that is too short yet."""
    return logits.index_fill(-1, torch.tensor(tokens, dtype=torch.long, device=logits.device), -torch.inf)
