"""What is new: near duplicates among many, and questions of an exam."""

import json
import random

import corpora
import numpy as np
import pytest
from annotate import Rejected
from for_tests import shared
from seen_questions import NearDuplicates, Seen, questions_apart, shingles
from tasks import FAMILIES


def resemblance(one, other):
    """Jaccard: the share of all shingles of two texts that both have."""
    one, other = shingles(one), shingles(other)
    return len(one & other) / len(one | other)


def test_estimates_are_the_exact_resemblance():
    """128 hashes: the deviation of an estimate is sqrt(J (1 - J) / 128), and there is no bias."""
    generator, near, errors = random.Random(0), NearDuplicates(), []
    for _ in range(200):
        words = [f"w{i}" for i in range(40)]
        other = [word if generator.random() > generator.choice([0.02, 0.1, 0.3]) else "x" + word for word in words]
        one, two = " ".join(words), " ".join(other)
        exact = resemblance(one, two)
        errors.append(near.estimate(near.signature(one), near.signature(two)) - exact)
        bound = 4.5 * np.sqrt(exact * (1 - exact) / 128) + 1e-9
        assert abs(errors[-1]) <= bound, "is it the least hash of each function?"
    assert abs(np.mean(errors)) < 0.01 and np.std(errors) > 0.005


def test_resemblance_by_hand():
    assert shingles("A b, c!") == {"a b", "b c"} and shingles("a") == {"a"} and shingles("") == {""}
    assert resemblance("a b c d", "a b c e") == 2 / 4 and resemblance("a b", "c d") == 0
    assert resemblance("What is A?", "what IS a") == 1


def test_one_of_many_is_found():
    generator = random.Random(1)
    texts = [" ".join(generator.choices([f"w{i}" for i in range(300)], k=30)) for _ in range(500)]
    near = NearDuplicates()
    for text in texts:
        assert near.find(text) is None
        near.add(text)
    for text in texts[::10]:
        words = text.split()
        assert near.find(" ".join(words[:14] + ["other"] + words[15:])) == text
        assert near.find(" ".join(sorted(words))) is None, "the order of words counts"


def test_seen_and_apart():
    exam = {"How many pens does Ann have, if she buys 12 more on Monday?": "exam, line 7"}
    seen = Seen(exam, ["What is new here now?"])
    seen.check("How many dogs lived in the tower?")
    seen.add("How many dogs lived in the tower?")
    for question, reason in (("how many dogs lived in the tower", "is there already"),
                             ("So how many dogs lived in the tower?", "nearly the same question"),
                             ("What is new here now?", "nearly the same"),
                             ("How many pens does Ann have, if she buys 12 more on Tuesday?", "apart: exam, line 7")):
        with pytest.raises(Rejected, match=reason):
            seen.check(question)
    seen.add("3*9+6*8*2?", FAMILIES["arithmetic"])
    seen.check("3*9+6*8*3?", FAMILIES["arithmetic"])
    seen.add("A<B B<C 1?", FAMILIES["ordering"])
    with pytest.raises(Rejected, match="already"):
        seen.check("B<C A<B 1?", FAMILIES["ordering"])


def test_gsm8k_is_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "DATA", tmp_path)
    monkeypatch.setenv("SHARED_DATA", str(shared("gsm8k/test.jsonl").parents[1]))
    apart = questions_apart(["gsm8k/test.jsonl"])
    assert len(apart) == 1319
    seen, question = Seen(apart), list(apart)[5]
    for other in (question, f"Please say: {question}"):
        with pytest.raises(Rejected, match="gsm8k/test.jsonl, line 6"):
            seen.check(other)
    train = [json.loads(line)["question"] for line in
             shared("gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()[:300]]
    alike = [each for each in train if seen.near_apart.find(each)]
    assert len(alike) <= 3, "training problems are others"
