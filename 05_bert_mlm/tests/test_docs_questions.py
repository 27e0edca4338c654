"""Questions with answers that stand in a text: they point where they say, nothing leaks, the scores are SQuAD's."""

import random
import re
import subprocess
import sys
from collections import Counter

import docs_questions as dq
import pytest
from flags import UserError
from for_tests import oracle, refuse, succeed

EVERY = {split: dq.questions(split) for split in dq.SPLITS}
ALL = [each for asked in EVERY.values() for each in asked]


@pytest.mark.parametrize("given, true, exact, f1", [
    ("The list's end.", "lists end", 1, 1),
    ("the cat sat", "cat sat down", 0, 0.8),  # precision 1, recall 2/3
    ("a a cat cat", "cat", 0, 2 / 3),  # articles are nothing; of two cats one is too many
    ("cat cat dog", "cat cat", 0, 0.8),
    ("an owl", "The owl", 1, 1),
    ("dog", "cat", 0, 0),
    ("", "cat", 0, 0),
    ("None", "none", 1, 1),
])
def test_scores_known_by_hand(given, true, exact, f1):
    assert dq.exact_match(given, true) == exact
    assert dq.f1(given, true) == pytest.approx(f1)


def test_scores_are_those_of_the_official_script():
    squad = oracle("transformers.data.metrics.squad_metrics")
    generator = random.Random(0)
    some = ["The", "a", "an", "list", "list's", "list,", "(True)", "of", "None.", "x_y", "\u2019", "\n", "andante"]
    for _ in range(2000):
        given, true = (" ".join(generator.choices(some, k=generator.randint(1, 6))) for _ in range(2))
        assert dq.normal(given) == squad.normalize_answer(given), "articles go after the punctuation, not before"
        assert dq.exact_match(given, true) == squad.compute_exact(true, given)
        if dq.normal(given) and dq.normal(true):  # of nothing, SQuAD 2.0 has an opinion of its own
            assert dq.f1(given, true) == pytest.approx(squad.compute_f1(true, given)), (given, true)


def test_scores_are_means_in_percent():
    asked = EVERY["test"][:2]
    assert dq.scores([asked[0].answer, "nothing like it"], asked) == (50, 50)
    with pytest.raises(ValueError):
        dq.scores(["one"], asked)


def test_the_answer_stands_where_the_question_says():
    for each in ALL:
        lines = dict(line.split(": ", 1) for line in each.context.split("\n"))
        own, name = lines[dq.short(each.name)], dq.short(each.name)
        assert 3 <= len(each.answer) <= dq.ANSWER and len(each.context) <= dq.CONTEXT and each.kind in dq.KINDS
        assert each.answer == each.answer.strip() and "\n" not in each.answer
        line = each.context[: each.start].count("\n")
        assert list(lines)[line] == name, f"the answer to {each.question} is in another's line"
        assert each.package == each.name.partition(".")[0]
        if each.kind == "which":
            hints = re.findall(r"\w+", each.question.removeprefix("Which one has to do with "))
            rest = " ".join(text for other, text in lines.items() if other != name)
            assert each.answer == name and len(hints) == 3 and len(lines) == 3
            assert set(hints) <= set(dq.words(own)) and not set(hints) & set(dq.words(rest)), "two lines would fit"
        else:
            assert name in each.question
        if each.kind == "find":
            assert each.answer == own and len(lines) == 3


def test_each_kind_in_one_docstring():
    docstring = """Return a copy of the table, or raise it.  Raises a KeyError if the key is missing, or worse.

    If key is None, the first row is taken.  The optional *key* is a string with a name (of a row).
    The *depth* is used to stop early.  Limit defaults to ten rows.

    >>> Return the example
    """
    found = {each.question: each.answer for each in dq.read("pack.mod.Class.method", "pack", docstring)}
    assert found == {
        "What does Class.method return?": "a copy of the table",
        "When does Class.method raise KeyError?": "the key is missing",
        "In Class.method, what happens if key is None?": "the first row is taken",
        "In Class.method, what is key?": "a string with a name",
        "In Class.method, what is depth used for?": "stop early",
        "In Class.method, what is the default of Limit?": "ten rows",
    }
    for docstring, question, answer in (
        ("Return True if (and only if) it is a copy; else False.", "When does f return True?", "it is a copy"),
        ("It hurts. OSError is raised when the file is closed.", "When does f raise OSError?", "the file is closed"),
        ("Test whether a path is a mount point.", "What does f test?", "a path is a mount point"),
    ):
        assert [(each.question, each.answer) for each in dq.read("f", "f", docstring)] == [(question, answer)]
    assert not list(dq.read("f", "f", "This is a class that is never asked about. Return True at once."))


def test_nothing_leaks_from_one_split_to_another():
    for one in EVERY:
        for other in EVERY.keys() - {one}:
            for part in ("package", "name", "question", "context"):
                shared = {getattr(q, part) for q in EVERY[one]} & {getattr(q, part) for q in EVERY[other]}
                assert not shared, f"{part} in {one} and {other}: {sorted(shared)[:3]}"
    assert len({each.question for each in ALL}) == len(ALL)


def test_there_are_many_and_of_all_kinds():
    counts = {split: Counter(each.kind for each in asked) for split, asked in EVERY.items()}
    assert counts["train"].total() > 3000 and min(count.total() for count in counts.values()) > 350, counts
    assert all(counts["train"][kind] > 150 and counts["test"][kind] > 9 for kind in dq.KINDS), counts


def test_no_place_is_always_right():
    for kind in dq.KINDS:
        lines = [each.context[: each.start].count("\n") for each in ALL if each.kind == kind]
        assert all(lines.count(line) > len(lines) / 8 for line in range(3)), f"{kind}: {Counter(lines)}"
    first = sum(each.answer in dq.BASELINES["first sentence"](each) for each in ALL)
    assert first < 0.35 * len(ALL), "the answers stand in the first sentence"


@pytest.mark.slow
def test_the_same_on_every_machine():
    program = f"import sys; sys.path[:0] = {sys.path!r}; import docs_questions, hashlib\n" \
              "print(hashlib.sha256(repr(docs_questions.every()).encode()).hexdigest())"
    first, second = (subprocess.check_output([sys.executable, "-c", program], encoding="utf-8",
                                             env={"PYTHONHASHSEED": seed}) for seed in "12")
    assert first == second


def test_trivial_answers():
    each = dq.Question("a.b", "What does a.b return?", "a.c: Cut it. Return all.\na.b: Make one. Return one.",
                       47, 50, "a", "return")
    assert each.answer == "one"
    answers = {who: baseline(each) for who, baseline in dq.BASELINES.items()}
    assert answers == {"first sentence": "Cut it.", "whole text": each.context, "most alike": "Return one."}
    lines = list(dq.table([each], {who: [text] for who, text in answers.items()} | {"right": ["one"]}))
    assert lines[1].split() == ["all", "(1)", *["0.0", "/", "0.0"], *["0.0", "/", "18.2"], *["0.0", "/", "66.7"],
                                *["100.0", "/", "100.0"]], lines


@pytest.mark.slow
def test_the_script():
    out = succeed("05_bert_mlm/docs_questions.py", "--show", 1)
    assert f"train: {len(EVERY['train']):,} questions" in out and out.count("\n  -> ") == len(dq.KINDS)
    assert "how trivial answers fare" in succeed("05_bert_mlm/docs_questions.py", "-h")
    assert "invalid int value" in refuse("05_bert_mlm/docs_questions.py", "--show", "x")
    with pytest.raises(UserError, match="no split 'dev': choose from test, validation, train"):
        dq.questions("dev")
