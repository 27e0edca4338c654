"""What a verifier has to say of a chain, by the exact checker, and how well it tells right from wrong.

Shapes: B chains, T tokens of question, chain and end.
"""

import math

import numpy as np
from family import read_chain


def places(text):
    """Where in a chain, or the beginning of one, a verifier is read: at the ; of each step, and where it ends.

    "3*9=7;#7" -> [5, 8]: what ends the text stands behind an answer; "3*9=7;" -> [5].
    """
    end = len(text) if "#" in text else len(text) - 1
    return sorted({i for i, character in enumerate(text.partition("#")[0]) if character == ";"} | {end})


def step_labels(family, question, text):
    """For each of `places` of a chain: 1 where all steps up to there are right, 0 at the first wrong one, -100 behind.

    The answer is the last step. What comes behind a mistake is not asked, as by Lightman et al. 2023, section 2.6: so a
    verifier learns of each step, and not to remember that one was wrong.
    """
    follows, _ = family.judge(question, read_chain(text)[0])
    count = len(places(text)) - 1
    # a step without ; before the answer is part of the end
    right = [*follows[:count], all(follows) and is_solved(family, question, text)]
    good = right.index(False) if False in right else len(right)
    return ([1] * good + [0] + [-100] * count)[: len(right)]


def is_solved(family, question, text):
    """Whether the answer of a chain is right; no answer is none."""
    return family.right(question, read_chain(text)[1] or "")


def example(kind, family, question, text, tokenizer, all_tokens=False):
    """(ids, labels, following) of a question with a chain, each as long.

    Labels are 0, 1, or -100 where nothing is asked; with `all_tokens` an outcome model is asked at every token of the
    chain. `following` is the next token where it belongs to what was judged right, else -100.
    """
    ids = with_end(question, text, tokenizer)
    labels, following = [-100] * len(ids), [-100] * len(ids)
    if kind == "process":
        asked = dict(zip(places(text), step_labels(family, question, text)))
    else:
        right = is_solved(family, question, text)
        asked = dict.fromkeys(range(len(text) + 1) if all_tokens else places(text)[-1:], int(right))
    for place, label in asked.items():
        labels[len(question) + place] = label
    until = len(question) + max((place for place, label in asked.items() if label == 1), default=-1)
    following[len(question) - 1 : until] = ids[len(question) : until + 1]
    return ids, labels, following


def with_end(question, text, tokenizer):
    """The ids of a question and a chain; behind an answer comes what ends a text."""
    return tokenizer.encode(question + text) + [tokenizer.end_of_text] * ("#" in text)


def auc(values, labels):
    """How often a right one has a higher value than a wrong one, equal values counting half; NaN if all are alike.

    The area under the ROC curve is this number (Mann and Whitney's U over the number of pairs), from ranks.
    """
    labels = np.asarray(labels, dtype=bool)
    _, kind, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[kind]  # equal ones share the mean of their ranks
    right, wrong = labels.sum(), (~labels).sum()
    return (ranks[labels].sum() - right * (right + 1) / 2) / (right * wrong) if right and wrong else math.nan
