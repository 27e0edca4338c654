"""How good answers and chains are: accuracy, pass@k, maj@k, and whether steps are right, followed and complete.

    print(one_line(chain_metrics([(family, "3*9+6*8?", "3*9=7;7+6=3;3*8=4;#4"), ...])))

The project that this chapter follows sampled N answers to each question, and called it accurate where any one of them
was judged to equal the known answer. That is not accuracy, which is about one answer that can be relied on, but
pass@N: it grows with N even if the model guesses, and no user could tell which of the N to take. maj@N is what a
user gets who lets the N vote. Here the three have their own names.
"""

import math
import re
from collections import Counter, defaultdict
from functools import lru_cache
from statistics import NormalDist

from family import kept, read_chain

# ---- answers ----


def accuracy(right, confidence=0.95):
    """Of answers that are right or not, (the share that is right, the ends of its confidence interval).

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference". Raises ValueError without any.
    """
    n, p = len(right), share(right)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    # (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    middle, width = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * width) / (1 + z * z / n) for sign in (-1, 1))
    return p, low if p > 0 else 0.0, high if p < 1 else 1.0


def share(right):
    if not right:
        raise ValueError("there is nothing to count: give at least one answer")
    return sum(right) / len(right)


def pass_at_k(n, c, k):
    """The probability that of k of n samples at least one is right, where c of the n are: (10, 3, 5) -> 0.916667.

    The unbiased estimate of Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1.
    """
    check(n, k)
    if not 0 <= c <= n:
        raise ValueError(f"c = {c} must be from 0 to n = {n}")
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def maj_at_k(answers, right, k):
    """The expected accuracy of the majority of k of n answers, exactly: over all choices of k and tied winners.

    `right` says of each answer whether it is; the same answer must be either. None does not vote.
    """
    check(len(answers), k)
    votes, meaning = Counter(answers), dict(zip(answers, right))
    if any(meaning[answer] != is_right for answer, is_right in zip(answers, right)):
        raise ValueError("the same answer is both right and wrong")
    silent = votes.pop(None, 0)
    candidates = sorted((count, bool(meaning[answer])) for answer, count in votes.items())
    return expected_majority(tuple(candidates), silent, k)


def check(n, k):
    if not 1 <= k <= n:
        raise ValueError(f"k = {k} must be from 1 to n = {n}, the number of samples")


@lru_cache(maxsize=2**16)
def expected_majority(candidates, silent, k):
    """candidates: (number of votes, whether it is right) of each different answer; silent: how many do not vote."""
    won, total = 0.0, math.comb(sum(count for count, _ in candidates) + silent, k)
    for top in range(1, max((count for count, _ in candidates), default=0) + 1):
        # in how many ways can x samples be chosen, so that `leaders` have `top` votes, of them `good` right, none more?
        ways = {(x, 0, 0): math.comb(silent, x) for x in range(min(silent, k) + 1)}
        for count, is_right in candidates:
            longer = defaultdict(int)
            for (x, leaders, good), number in ways.items():
                for taken in range(min(count, top, k - x) + 1):
                    leads = taken == top
                    longer[x + taken, leaders + leads, good + (leads and is_right)] += number * math.comb(count, taken)
            ways = longer
        won += sum(number * good / (leaders * total) for (x, leaders, good), number in ways.items() if x == k and good)
    return won


def mean_and_deviation(values):
    """(mean, mean absolute deviation from it) of m runs."""
    mean = share(values)
    return mean, sum(abs(value - mean) for value in values) / len(values)


def over_runs(found):
    """[{name: share} of each of several runs] -> "mean and mean absolute deviation of 3 runs: pass@1 29.9% +- 0.2%"."""
    summary = {name: mean_and_deviation([each[name] for each in found]) for name in found[0]}
    words = ", ".join(f"{name} {mean:.1%} +- {deviation:.1%}" for name, (mean, deviation) in summary.items())
    return f"mean and mean absolute deviation of {len(found)} runs: {words}"


def sample_metrics(groups, ks):
    """{"pass@1": ..., "maj@1": ..., ...} of [(the answers to one question, whether each is right)], k for k."""
    names = {}
    for k in ks:
        names[f"pass@{k}"] = share([pass_at_k(len(right), sum(right), k) for _, right in groups])
        names[f"maj@{k}"] = share([maj_at_k(answers, right, k) for answers, right in groups])
    return names


# ---- chains ----


def retention(family, question, steps):
    """The share of the question's operands that the steps use: "context retention".

    Used is what stands before the last = of a step, or anywhere in a step that has no operand there ("a=3", "2B").
    A result that happens to equal an operand can't be told from it, so this is never too low, and at times too high.
    """
    wanted, used = Counter(family.operands(question)), Counter()
    for step in steps:
        before = step.rpartition("=")[0]
        used.update(operands_in(before) or operands_in(step))
    return (wanted & used).total() / wanted.total() if wanted else 1.0


def operands_in(text):
    """The numbers of a text, and its capitals that stand alone."""
    return re.findall(r"\d+|(?<![A-Za-z])[A-Z](?![A-Za-z])", text)


def chain_metrics(chains):
    """Of [(family, question, what was written behind it)] a dict of:

    accuracy, and low, high: the ends of its interval of 95 %;
    step_validity: the share of all steps that follow from the question and the steps before them, None without steps;
    consistency: the share of chains whose answer is the one that follows from their steps, be these right or wrong:
        "logical consistency";
    retention: the mean share of operands that a chain uses; complete: the share of chains that have an answer.
    Steps that were taken back ("wait") don't count.
    """
    right, follows, consistent, used, complete = [], [], [], [], []
    for family, question, text in chains:
        steps, answer = read_chain(text)
        steps = [steps[i] for i in kept(steps)]
        judged, follow_up = family.judge(question, steps)
        right.append(answer is not None and family.right(question, answer))
        follows += judged
        consistent.append(answer is not None and answer == follow_up)
        used.append(retention(family, question, steps))
        complete.append(answer is not None)
    return {**dict(zip(("accuracy", "low", "high"), accuracy(right))), "chains": len(right),
            "step_validity": share(follows) if follows else None, "consistency": share(consistent),
            "retention": share(used), "complete": share(complete)}


def one_line(metrics):
    """"400 chains: 62.5 % right (57.7 to 67.1), steps 91.2 % valid, ..." of what chain_metrics returns."""
    steps = "none" if metrics["step_validity"] is None else f"{metrics['step_validity']:.1%} valid"
    return (f"{metrics['chains']} chains: {metrics['accuracy']:.1%} right ({metrics['low']:.1%} to"
            f" {metrics['high']:.1%}), steps {steps}, answers {metrics['consistency']:.1%} consistent,"
            f" operands {metrics['retention']:.1%} used, {metrics['complete']:.1%} complete")
