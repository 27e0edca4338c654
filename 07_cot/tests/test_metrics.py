"""The metrics against scipy, the paper's formula, every choice of k samples, and chains whose flaws are known."""

import itertools
import math
import random
import statistics
from collections import Counter

import numpy as np
import pytest
from for_tests import oracle
from metrics import (
    accuracy,
    chain_metrics,
    maj_at_k,
    mean_and_deviation,
    one_line,
    pass_at_k,
    retention,
    sample_metrics,
)
from tasks import FAMILIES, draw


def test_the_interval_equals_scipy():
    stats = oracle("scipy.stats")
    for n in (1, 2, 7, 400, 10_000):
        for right in {0, 1, n // 3, n - 1, n}:
            for confidence in (0.5, 0.95, 0.999):
                wanted = stats.binomtest(right, n).proportion_ci(confidence, method="wilson")
                share, low, high = accuracy([True] * right + [False] * (n - right), confidence)
                assert share == right / n and np.allclose((low, high), wanted, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="at least one answer"):
        accuracy([])


def test_pass_at_k():
    for facts, wanted in (((10, 3, 5), 0.916667), ((100, 5, 10), 0.416248), ((5, 2, 2), 0.7)):
        assert pass_at_k(*facts) == pytest.approx(wanted, abs=1e-6), "1 - C(n - c, k) / C(n, k)"
    for n, c, k in itertools.product(range(1, 7), range(7), range(1, 7)):
        if c <= n and k <= n:
            choices = list(itertools.combinations([True] * c + [False] * (n - c), k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, choices)) / len(choices)), (n, c, k)
    for facts, message in (((5, 2, 6), "k = 6 must be from 1 to n = 5"), ((5, 2, 0), "k = 0"), ((5, 6, 1), "c = 6")):
        with pytest.raises(ValueError, match=message):
            pass_at_k(*facts)


def vote(answers, meaning):
    """The chance that a majority is right, where tied winners are drawn from."""
    counts = Counter(answer for answer in answers if answer is not None)
    winners = [answer for answer, count in counts.items() if count == max(counts.values())]
    return sum(meaning[answer] for answer in winners) / len(winners) if winners else 0


def test_maj_at_k_equals_every_choice():
    generator = random.Random(0)
    for _ in range(150):
        answers = generator.choices(["1", "2", "3", "4", None], weights=[3, 2, 2, 1, 1], k=generator.randint(1, 9))
        meaning = {answer: answer in ("1", "4") for answer in answers}  # several answers may be right
        right = [meaning[answer] for answer in answers]
        for k in range(1, len(answers) + 1):
            choices = list(itertools.combinations(answers, k))
            wanted = sum(vote(choice, meaning) for choice in choices) / len(choices)
            assert maj_at_k(answers, right, k) == pytest.approx(wanted, abs=1e-12), (answers, k)


def test_maj_at_k_is_fast_enough_for_many_samples():
    answers = [str(i % 40) for i in range(64)]
    right = [answer == "0" for answer in answers]
    assert 0 < maj_at_k(answers, right, 64) < 1 and maj_at_k(answers, right, 1) == pytest.approx(2 / 64)
    assert maj_at_k(["1"] * 200 + ["2"] * 100, [True] * 200 + [False] * 100, 101) > 0.999


def test_maj_at_k_wants_an_answer_to_be_right_or_wrong():
    with pytest.raises(ValueError, match="both right and wrong"):
        maj_at_k(["1", "1"], [True, False], 1)
    with pytest.raises(ValueError, match="k = 3 must be from 1 to n = 2"):
        maj_at_k(["1", "2"], [True, False], 3)


def test_mean_and_deviation():
    values = [0.2, 0.5, 0.8, 0.1]
    mean, deviation = mean_and_deviation(values)
    assert mean == pytest.approx(statistics.fmean(values)) and deviation == pytest.approx((0.2 + 0.1 + 0.4 + 0.3) / 4)
    assert mean_and_deviation([0.5]) == (0.5, 0)


def test_sample_metrics_are_means_over_questions():
    groups = [(["1", "1", "2"], [True, True, False]), (["3", None, "4"], [False, False, False])]
    found = sample_metrics(groups, (1, 3))
    assert found == pytest.approx({"pass@1": 1 / 3, "maj@1": 1 / 3, "pass@3": 0.5, "maj@3": 0.5})


@pytest.mark.parametrize("name", FAMILIES)
def test_right_chains_have_full_marks_and_none_if_cut(name):
    problems = draw(name, "train", 60, seed=0)
    found = chain_metrics([(FAMILIES[name], each.question, each.chain) for each in problems])
    for metric in ("accuracy", "high", "step_validity", "consistency", "retention", "complete"):
        assert found[metric] == 1, f"{metric} of right chains of {name}"
    assert found["chains"] == 60 and 0.9 < found["low"] < 1
    direct = chain_metrics([(FAMILIES[name], each.question, f"#{each.answer}") for each in problems])
    assert direct["accuracy"] == direct["complete"] == 1 and direct["step_validity"] is None
    assert direct["consistency"] == 0 and direct["retention"] == 0, "without steps nothing follows"
    cut = chain_metrics([(FAMILIES[name], each.question, f"{each.steps[0]};") for each in problems])
    assert cut["accuracy"] == cut["complete"] == cut["consistency"] == 0 and cut["step_validity"] == 1
    assert cut["retention"] < 1 or name in ("ordering", "knights", "booleans", "addition", "multiplication")


def test_chains_whose_flaws_are_known():
    family, question = FAMILIES["arithmetic"], "3*9+6*8?"  # 7, 3, 4
    for text, wanted in {
        "3*9=7;7+6=3;3*8=4;#4": (1, 1, 1, 1),
        "3*9=8;8+6=4;4*8=2;#2": (0, 2 / 3, 1, 1),  # one slip, from which it goes on rightly
        "3*9=7;7+6=3;3*8=4;#5": (0, 1, 0, 1),  # the answer is not that of the last step
        "3*9=8;8+6=4;4*8=2;#4": (1, 2 / 3, 0, 1),  # right, but for no reason
        "3*9=7;7+6=3;#3": (0, 1, 0, 3 / 4),  # 8 was forgotten
        "3*9=8;wait;3*9=7;7+6=3;3*8=4;#4": (1, 1, 1, 1),
        "nonsense": (0, 0, 0, 0),
    }.items():
        found = chain_metrics([(family, question, text)])
        names = ("accuracy", "step_validity", "consistency", "retention")
        assert [found[name] for name in names] == pytest.approx(wanted), text


def test_step_validity_is_a_share_of_steps_not_of_chains():
    family = FAMILIES["arithmetic"]
    found = chain_metrics([(family, "3*9+6*8?", "3*9=7;7+6=3;3*8=4;#4"), (family, "1+1?", "1+1=3;#3")])
    assert found["step_validity"] == 3 / 4 and found["accuracy"] == 1 / 2 and found["consistency"] == 1


def test_retention_counts_each_operand_as_often_as_it_is_there():
    assert retention(FAMILIES["arithmetic"], "3*3+3?", ["3*3=9"]) == pytest.approx(2 / 3)
    assert retention(FAMILIES["programs"], "a=3\nb=7\nprint(a)?", ["a=3"]) == 1 / 2
    assert retention(FAMILIES["words"], "Ann has 12 pens. Ann loses 5. How many has Ann?", ["Ann 12-4=8"]) == 1 / 2
    assert retention(FAMILIES["countdown"], "3 5 7=56?", ["3+5=8", "7*8=56"]) == 1


def test_one_line():
    family = FAMILIES["arithmetic"]
    line = one_line(chain_metrics([(family, "1+1?", "1+1=2;#2"), (family, "1+2?", "#9")]))
    assert line == ("2 chains: 50.0% right (9.5% to 90.5%), steps 100.0% valid, answers 50.0% consistent,"
                    " operands 50.0% used, 100.0% complete")
    direct = chain_metrics([(family, "1+1?", "#2")])
    assert math.isclose(direct["low"], 0.2065, abs_tol=1e-4) and "steps none" in one_line(direct)
