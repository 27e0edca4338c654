"""Hide a part of a text and remember what was there: the lesson from which BERT learns.

    inputs, targets = mask_tokens(ids, marks, rate=0.15, random=np.random.default_rng(1))

Masking is dynamic: another part is hidden each time that a text is read. Shapes: B rows, T positions.
"""

import numpy as np
import torch

KINDS = "token", "word", "span"
LONGEST_SPAN, SPAN_ENDS = 10, 0.2  # words


def choose_tokens(allowed, rate, random):
    """Each token for itself. Devlin et al. 2018, section 3.1."""
    return allowed & (random.random(allowed.shape) < rate)


def choose_words(allowed, words, rate, random):
    """All tokens of a word or none: half a word is too easy to guess from the other half.

    The published code of BERT, "whole word masking" (May 2019).
    """
    chance = random.random((len(words), words.max() + 1))
    return allowed & (np.take_along_axis(chance, words, axis=1) < rate)


def choose_spans(allowed, words, rate, random):
    """Several words running (n-grams) until the rate is reached: their number is 1, 2, ... with 0.2 (1 - 0.2)^(n - 1).

    Joshi et al. 2020, "SpanBERT: Improving Pre-training by Representing and Predicting Spans", section 3.1.
    """
    chosen = np.zeros_like(allowed)
    for row, may, word in zip(chosen, allowed, words):
        budget = int(rate * may.sum() + random.random())  # rounded so that the mean is right
        while row.sum() < budget:
            first = random.integers(word[-1] + 1)
            span = (word >= first) & (word < first + min(random.geometric(SPAN_ENDS), LONGEST_SPAN)) & may
            row[(span & ~row).nonzero()[0][: budget - row.sum()]] = True  # as much of it as there is room for
    return chosen


def mask_tokens(ids, marks, rate=0.15, kind="token", random=None):
    """ids (B, T), an array or tensor -> (inputs, targets), tensors (B, T); targets are -100 where nothing is asked.

    `rate` of the tokens are chosen. Of these 80 % become [MASK], 10 % another token, whichever, and 10 % stay as they
    are, since no text that is read later has a [MASK]. `marks` (bert_tokens.Marks) knows which may never be chosen.
    Devlin et al. 2018, section 3.1 and appendix A.1.
    """
    ids, random = np.asarray(ids), random or np.random.default_rng()
    allowed = ~marks.special[ids]
    if kind == "token":
        chosen = choose_tokens(allowed, rate, random)
    else:
        choose = {"word": choose_words, "span": choose_spans}[kind]
        chosen = choose(allowed, marks.words(ids), rate, random)
    fate = random.random(ids.shape)
    inputs = np.where(chosen & (fate < 0.8), marks.mask, ids)
    inputs = np.where(chosen & (fate >= 0.9), random.integers(len(marks.special), size=ids.shape), inputs)
    return torch.from_numpy(inputs), torch.from_numpy(np.where(chosen, ids, -100))
