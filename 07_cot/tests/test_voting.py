"""Votes by hand and by brute force: what a perfect verifier, a useless one, and ties must give."""

import json
import math
import random
from collections import Counter

import pytest
import vote_curve
from early_reasoner import EARLY
from for_tests import refuse, succeed
from tasks import FAMILIES, draw
from voting import WAYS, Vote, best, likelihoods, passed, per_token, vote


def some_answers(generator, count):
    return [generator.choice(["1", "2", "3", "4", None]) for _ in range(count)]


def test_a_majority_wins_and_its_share_is_of_those_that_answer():
    assert vote(["7", "4", "7", None]) == Vote("7", 2 / 3), "did a chain without an answer vote?"
    assert vote([None, None]) == vote([]) == Vote(None, 0.0)


def test_a_vote_counts_as_counter_does():
    generator = random.Random(0)
    for _ in range(500):
        answers = some_answers(generator, generator.randint(1, 16))
        counts = Counter(answer for answer in answers if answer is not None)
        found = vote(answers)
        if counts:
            first, most = counts.most_common(1)[0]
            assert (found.answer, found.share) == (first, most / counts.total())


def test_of_equals_the_first_drawn_wins():
    assert vote(["4", "7", "7", "4", "1"]) == Vote("4", 2 / 5)
    assert vote(["4", "7"], [0.0, 0.0]) == Vote("4", 1 / 2), "no weight at all is a tie of all"
    # 0.1 + 0.2 is not 0.3 where sums depend on their order
    assert vote(["a", "b", "b", "a", "a", "b"], [0.3, 0.1, 0.2, 0.2, 0.1, 0.3]).answer == "a"


def test_weights_turn_a_vote():
    answers = ["7", "4", "7"]
    assert vote(answers, [0.1, 0.9, 0.2]).answer == "4" and best(answers, [0.1, 0.9, 0.2]) == "4"
    assert vote(answers, [0.4, 0.7, 0.4]).answer == "7" and best(answers, [0.4, 0.7, 0.4]) == "4"
    assert vote(answers, [0.1, 0.9, 0.3]).share == pytest.approx(0.9 / 1.3)
    for weight in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError):
            vote(answers, [0.1, weight, 0.3])
    with pytest.raises(ValueError):
        vote(answers, [0.1, 0.9])


def test_equal_weights_are_a_majority():
    generator = random.Random(1)
    for _ in range(200):
        answers = some_answers(generator, 16)
        assert vote(answers, [0.3] * 16).answer == vote(answers).answer


def test_the_best_has_an_answer():
    assert best(["4", None, "7"], [-3.0, -1.0, -2.0]) == "7"
    assert best(["4", "7"], [0.5, 0.5]) == "4" and best([None], [1.0]) is None


def test_likelihoods_keep_their_ratios_where_exp_would_be_0():
    low, lower = likelihoods([-1000.0, -1002.0])
    assert low == 1 and lower == pytest.approx(math.exp(-2))
    assert per_token([-6.0, -6.0], [3, 6]) == [-2.0, -1.0]


def known(verdicts, generator):
    """What the ways know of chains of which a verifier says `verdicts`, and nothing else is known."""
    blind = [-generator.random() for _ in verdicts]
    return {"log_probability": blind, "per_token": blind, "outcome": verdicts, "process": verdicts}


class Sevens:
    """A family in which 7 is right."""

    @staticmethod
    def right(question, answer):
        return answer == "7"


def drawn(generator, questions, verdict, samples=16):
    """Answers, one of six right, and what is known where a verifier says `verdict(answer)`."""
    answers = [[generator.choice(["7", "1", "2", "3", "4", None]) for _ in range(samples)] for _ in range(questions)]
    return answers, [known([verdict(answer) for answer in row], generator) for row in answers]


def test_a_perfect_verifier_reaches_pass_at_n():
    answers, about = drawn(random.Random(2), 300, lambda answer: float(answer == "7"))
    found = vote_curve.accuracies(Sevens, ["?"] * 300, answers, about, 16)
    for kind in ("outcome", "process"):
        assert found[f"vote by {kind} model"] == found[f"best by {kind} model"] == found["pass@N"]
    assert found["majority"][-1] < found["pass@N"][-1]
    expected = [1 - (5 / 6) ** N for N in vote_curve.counts(16)]
    assert found["pass@N"] == pytest.approx(expected, abs=0.06), "are the groups of N samples disjoint?"


def test_a_useless_verifier_is_a_majority_or_chance():
    generator = random.Random(3)
    answers, about = drawn(generator, 300, lambda answer: 0.5)
    found = vote_curve.accuracies(Sevens, ["?"] * 300, answers, about, 16)
    assert found["vote by process model"] == found["majority"], "equal weights must change nothing"
    answers, about = drawn(generator, 300, lambda answer: generator.random())
    found = vote_curve.accuracies(Sevens, ["?"] * 300, answers, about, 16)
    assert found["best by process model"][-1] == pytest.approx(1 / 5, abs=0.08), "of those with an answer one in five"


def test_no_way_is_above_pass_at_n_and_one_sample_leaves_no_choice():
    generator = random.Random(4)
    answers, about = drawn(generator, 100, lambda answer: generator.random())
    found = vote_curve.accuracies(Sevens, ["?"] * 100, answers, about, 16)
    one = sum(answer == "7" for row in answers for answer in row) / 1600
    for way in WAYS:
        assert all(share <= most for share, most in zip(found[way], found["pass@N"])), way
        assert found[way][0] == pytest.approx(one), f"{way}: the mean over all samples, one at a time"


def test_passed_asks_the_checker_of_answers_alone():
    question = draw("countdown", "test", 1, 0)[0]
    family = FAMILIES["countdown"]
    assert not passed([None, "1+1"], lambda answer: family.right(question.question, answer))
    assert passed([None, question.answer], lambda answer: family.right(question.question, answer))


def record(data, seed, share):
    args = vote_curve.arguments().parse(["--samples", "4"])
    shares = {way: [share, share, share + 0.1 * seed] for way in [*WAYS, "pass@N"]}
    seconds = {"greedy": 0.01, "sampling": [0.01, 0.02, 0.04], "process": [0.01] * 3, "outcome": [0.01] * 3}
    return {"what": vote_curve.settings_of(data, seed, args), "greedy": share, "accuracy": shares, "seconds": seconds}


@pytest.mark.slow
def test_what_is_measured_is_kept_drawn_and_told(tmp_path):
    """The script with all records there: it measures nothing anew, and its table has means and all seeds."""
    data = next(iter(EARLY))
    lines = [f"{json.dumps(record(data, seed, 0.25))}\n" for seed in (1, 2)]
    (tmp_path / "votes.jsonl").write_text("".join(lines), encoding="utf-8")
    words = ["-d", data, "--seeds", 1, 2, "--samples", 4, "--results", tmp_path / "votes.jsonl"]
    said = succeed("07_cot/vote_curve.py", *words, "-o", tmp_path / "voting.png", cwd=tmp_path)
    assert "| majority | 0.250 | 0.250 | 0.400 | 0.350, 0.450 |" in said
    assert "| greedy | 0.250 |" in said
    assert (tmp_path / "voting.png").stat().st_size > 10_000
    results = json.loads((tmp_path / "voting.json").read_text(encoding="utf-8"))
    assert results["counts"] == [1, 2, 4] and [each["what"]["seed"] for each in results["records"]] == [1, 2]
    assert "torch" in results["machine"]


@pytest.mark.slow
@pytest.mark.parametrize("words, cure", [
    (["--samples", 12], "power of 2"), (["--temperature", 0], "more than 0"), (["--limit", 0], "at least 1")])
def test_bad_values_are_refused_in_one_line(words, cure):
    assert cure in refuse("07_cot/vote_curve.py", *words)
