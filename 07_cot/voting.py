"""One answer out of many chains: voting, weighted or not, and taking the best one.

    vote(["7", "4", "7", None])                          # Vote("7", share=2/3)
    vote(["7", "4", "7"], [0.1, 0.9, 0.2])               # a verifier knows better: "4"
    best(["7", "4", "7"], [0.1, 0.9, 0.2])               # the answer of the chain with the highest score: "4"

An answer is a text, or None where a chain has none: such a chain has no vote, and is never the best.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Vote:
    """The winner, None if no chain has an answer, and its share of all weight."""

    answer: str | None
    share: float


def tally(answers, weights=None):
    """{answer: the sum of its chains' weights, each 1 without any}, in the order of their first chains."""
    sums = {}
    for answer, weight in zip(answers, [1] * len(answers) if weights is None else weights, strict=True):
        if not 0 <= weight < math.inf:
            raise ValueError(f"a weight of {weight}: it must be 0 or more")
        if answer is not None:
            sums.setdefault(answer, []).append(weight)
    return {answer: math.fsum(each) for answer, each in sums.items()}  # the same in whatever order


def vote(answers, weights=None):
    """The Vote of chains. Of equals the one that was drawn first wins: as likely any, since chains come in no order.

    Wang et al. 2023, "Self-Consistency Improves Chain of Thought Reasoning in Language Models", section 2. With a
    verifier's scores as weights: Li et al. 2023, "Making Language Models Better Reasoners with Step-Aware Verifier",
    section 3.2.
    """
    sums = tally(answers, weights)
    if not sums:
        return Vote(None, 0.0)
    most, total = max(sums.values()), math.fsum(sums.values())
    winner = next(answer for answer, weight in sums.items() if weight == most)
    return Vote(winner, most / total if total else 1 / len(sums))


def best(answers, scores):
    """Best of N: the answer of the chain with the highest score, of equals the first; None if there is no answer.

    Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems", section 4.
    """
    found = [(score, answer) for answer, score in zip(answers, scores, strict=True) if answer is not None]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def likelihoods(log_probabilities):
    """Weights in proportion to probabilities, the largest 1: [-1000, -1001] -> [1, 0.37], where exp would give 0."""
    highest = max(log_probabilities)
    return [math.exp(each - highest) for each in log_probabilities]


def per_token(log_probabilities, lengths):
    """The mean log-probability of a token of each chain: long ones are no less likely only because they are long."""
    return [each / max(1, length) for each, length in zip(log_probabilities, lengths, strict=True)]


def passed(answers, is_right):
    """Whether any answer is right: with the exact checker as verifier, what no way of choosing can exceed (pass@N)."""
    return any(answer is not None and is_right(answer) for answer in answers)


# what each way of choosing needs to know of the chains, and the answer that it chooses
WAYS = {
    "majority": lambda answers, known: vote(answers).answer,
    "vote by probability": lambda answers, known: vote(answers, likelihoods(known["log_probability"])).answer,
    "vote by probability per token": lambda answers, known: vote(answers, likelihoods(known["per_token"])).answer,
    "vote by outcome model": lambda answers, known: vote(answers, known["outcome"]).answer,
    "vote by process model": lambda answers, known: vote(answers, known["process"]).answer,
    "best by probability": lambda answers, known: best(answers, known["log_probability"]),
    "best by outcome model": lambda answers, known: best(answers, known["outcome"]),
    "best by process model": lambda answers, known: best(answers, known["process"]),
}
