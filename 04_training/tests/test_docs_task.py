"""Questions about Python's documentation: nothing leaks, nothing depends on the machine, the judge is not fooled."""

import re
import subprocess
import sys

import docs_task
import pytest
from docs_task import Pair, copy_rate, exact, first_sentence, pairs, preferences, reward, win_rate
from flags import UserError
from for_tests import succeed

DEDENT = Pair("textwrap.dedent", "What does textwrap.dedent do?",
              "Remove any common leading whitespace from every line.", "textwrap", "asked")


def mean(numbers):
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


def test_nothing_leaks_from_one_split_to_another():
    splits = {split: pairs(split) for split in docs_task.SPLITS}
    counts = {split: len(found) for split, found in splits.items()}
    assert counts["train"] > 2000 and min(counts.values()) > 150, counts
    for one in splits:
        for other in splits.keys() - {one}:
            for part in ("package", "name"):
                shared = {getattr(p, part) for p in splits[one]} & {getattr(p, part) for p in splits[other]}
                assert not shared, f"{part} in {one} and {other}: is it split by package?"
            answers, others = ({docs_task.normal(docs_task.documented()[p.package][p.name][0]) for p in splits[split]}
                               for split in (one, other))
            assert not answers & others, f"an answer of {one} is one of {other}, too"
            for wrong in {each.rejected for each in preferences(one) if each.why == "other"}:
                assert docs_task.normal(wrong) not in others, "another's answer comes from another split"
    packages = {name.partition(".")[0] for p in splits["train"] if p.kind in ("which", "find")
                for name in re.findall(r"^([\w.]+)(?::|$)", p.question.partition("\n")[2], re.M)}
    assert packages <= {p.package for p in splits["train"]}, "a wrong choice comes from a held-out package"


@pytest.mark.slow
def test_the_same_on_every_machine():
    program = f"import sys; sys.path[:0] = {sys.path!r}; import docs_task, hashlib\n" \
              "text = repr([(docs_task.pairs(s), docs_task.preferences(s)) for s in docs_task.SPLITS])\n" \
              "print(hashlib.sha256(text.encode()).hexdigest())"
    first, second = (subprocess.check_output([sys.executable, "-c", program], encoding="utf-8",
                                             env={"PYTHONHASHSEED": seed}) for seed in "12")
    assert first == second
    assert [docs_task.split_of(package) for package in ("email", "textwrap", "http", "xml")] == [
        "train", "train", "test", "validation",
    ], "the split of a package must never change: what was trained on would be tested"
    assert pairs("test") is not pairs("test")


def test_answers_are_sentences_that_stand_in_the_documentation():
    every = [pair for split in docs_task.SPLITS for pair in pairs(split)]
    assert len({pair.question for pair in every}) == len(every) == len({pair.name for pair in every})
    for pair in every:
        assert not re.search(r"(^|\.)_", pair.name) and pair.kind in docs_task.QUESTIONS
        assert pair.answer.endswith((".", "!", "?")) and pair.answer == " ".join(pair.answer.split())
        assert len(pair.question) < 700 and len(pair.answer) <= 200
        if pair.kind in ("find", "read"):
            assert pair.answer in pair.question, "the answer is not in the text that is to be read"
        elif pair.kind == "which":
            listed = pair.question.split("\n")[1:-1]
            assert len(listed) == 3 and listed.count(pair.answer.removesuffix(".")) == 1
        else:
            assert pair.answer not in pair.question and pair.name in pair.question
    kinds = [pair.kind for pair in every]
    assert all(kinds.count(kind) > len(every) / 10 for kind in docs_task.QUESTIONS)
    starts = {re.sub(r"[\w.]*\.\w+\.?|\b[a-z0-9]+\b", "", pair.question)[:12] for pair in every if pair.kind == "asked"}
    assert len(starts) >= 3, "each name must be asked for in its own way"
    places = [pair.question.split("\n")[1:-1].index(pair.name) for pair in every if pair.kind == "which"]
    assert all(places.count(place) > len(places) / 5 for place in range(3)), "the right name is not always there"


def test_summaries():
    answer = "Read e.g. a file of the disk."
    docstring = "Read e.g. a file\nof the disk.  Then stop.\n\nMore."
    assert docs_task.summary(docstring) == (answer, f"{answer} Then stop. More.")
    assert docs_task.summary("Read a file of the disk") == ("Read a file of the disk.",) * 2
    for useless in ("", "Constructor.", "self-explanatory text about nothing", "f(x, y) -> the number of x", "X " * 150,
                    "Internal method that does the work.", 'disposition-type *( ";" parameter )'):
        assert docs_task.summary(useless)[0] is None, useless


def test_preferences_are_worse_each_in_its_way():
    by_question = {pair.question: pair for pair in pairs("test")}
    found = preferences("test")
    assert [each.question for each in found] == list(by_question)
    for each in found:
        pair = by_question[each.question]
        assert each.chosen == pair.answer != each.rejected
        assert reward(pair, each.rejected) < 0.9 < reward(pair, each.chosen), each
        if each.why == "truncated":
            assert each.chosen.startswith(each.rejected) and not each.rejected.endswith(".")
        elif each.why == "repetitive":
            third = (len(each.rejected) - 3) // 3
            assert each.rejected == f"{each.chosen[:third]} {each.chosen[:third]} {each.chosen[:third]}."
        elif pair.kind == "which":
            assert each.rejected.removesuffix(".") in pair.question.split("\n")
        else:
            assert each.rejected in {answer for answer, _ in docs_task.documented()[pair.package].values()}
    whys = [each.why for each in found]
    assert all(whys.count(why) > len(found) / 6 for why in docs_task.FLAWS)


def test_the_formula_of_the_reward_by_hand():
    # 7 content words, all but "from", and 7 pairs of all 8
    assert reward(DEDENT, DEDENT.answer) == 1
    assert reward(DEDENT, DEDENT.answer.upper()) == 1
    assert reward(DEDENT, DEDENT.answer[:-1]) == 0.5, "it does not end"
    # common 2 words + 1 pair, of 2 + 1 and 7 + 7: F1 = 2 * 3 / (3 + 14)
    assert reward(DEDENT, "Leading whitespace.") == pytest.approx(6 / 17)
    assert reward(DEDENT, "Whitespace leading.") == pytest.approx(4 / 17), "the order counts"
    # common 2 + 0, of 2 + 4: stop words count in pairs only
    assert reward(DEDENT, "The leading, and of whitespace.") == pytest.approx(4 / 20)
    # common 7 + 7, of 14 + 15: F1 = 28 / 43; 8 different pairs of 15; 12 words are allowed, 16 given
    assert reward(DEDENT, f"{DEDENT.answer} {DEDENT.answer}") == pytest.approx(28 / 43 * 8 / 15 * 12 / 16)
    assert reward(DEDENT, "What does textwrap.dedent do.") == 0
    asked = Pair("a", "What does the first line of text do?", "Write the first line.", "a", "asked")
    # common 3 + 3, of 4 + 5 and 3 + 3; 3 of 4 triples stand in the line that asks
    assert reward(asked, "Write the first line of text.") == pytest.approx(12 / 15 * (1 - 3 / 4))


def test_the_judge_is_not_fooled():
    test = pairs("test")
    honest = mean(reward(pair, first_sentence(pair)) for pair in test)
    vocabulary = " ".join(sorted({word for pair in test for word in docs_task.words(pair.answer)}))
    attacks = {
        "nothing": lambda pair: "",
        "a full stop": lambda pair: ".",
        "the question": lambda pair: pair.question,
        "the line that asks": lambda pair: pair.question.split("\n")[-1],
        "all there is to read": lambda pair: " ".join(pair.question.split("\n")[1:-1]) + ".",
        "every word": lambda pair: f"{vocabulary}.",
        "what is often right": lambda pair: "Return a new object with the given name or value.",
        "another's answer": lambda pair: test[test.index(pair) - 1].answer,
    }
    for name, attack in attacks.items():
        got = mean(reward(pair, attack(pair)) for pair in test)
        assert got < honest / 3, f"{name} gets {got:.3f}, and the first sentence {honest:.3f}"
    for name, spoiled, most in (
        ("without its end", lambda pair: pair.answer[:-1], 0.5),
        ("said twice", lambda pair: f"{pair.answer} {pair.answer}", 0.4),
        ("with every second word", lambda pair: " ".join([*pair.answer.split()[:-1:2], "."]), 0.7),
    ):
        rewards = [reward(pair, spoiled(pair)) for pair in test if pair.kind != "which"]
        assert max(rewards) <= most, f"a right answer {name}"
    rewards = [reward(pair, f"{pair.question} {pair.answer}") for pair in test]
    assert mean(rewards) < 0.4 and max(rewards) < 1, "a right answer that repeats the question"
    for pair in test:
        assert reward(pair, pair.answer) == 1 and exact(pair, f" {pair.answer[:-1].upper()}\n")
        if pair.kind == "which":
            for name in pair.question.split("\n")[1:-1]:
                assert reward(pair, f"{name}.") == (f"{name}." == pair.answer), "a name of the same package is wrong"


def test_the_first_sentence_is_right_where_it_should_be():
    test = pairs("test")
    share = {kind: mean(exact(p, first_sentence(p)) for p in test if p.kind == kind) for kind in docs_task.QUESTIONS}
    assert share["asked"] == 0 and share["read"] > 0.9
    assert 0.15 < share["which"] < 0.5 and 0.2 < share["find"] < 0.5, "one of three, about"
    assert first_sentence(Pair("a.get_all", "Explain a.get_all.", "", "a", "asked")) == "get all."


def test_copies_and_wins():
    read = Pair("a", "Here is the documentation of a:\nOne two three four.\nWhat does it do?", "One two.", "a", "read")
    assert copy_rate(read, "One two three.") == 1 and copy_rate(read, "Two three five.") == 0
    assert copy_rate(read, "one two three five six") == pytest.approx(1 / 3)
    assert copy_rate(read, "") == copy_rate(read, "One two.") == 0
    assert exact(read, "one  TWO") and not exact(read, "one") and not exact(read, "")
    assert win_rate([1, 0, 1], [0, 0, 0]) == pytest.approx(5 / 6) and win_rate([0.2], [0.3]) == 0
    with pytest.raises(ValueError):
        win_rate([1], [1, 0])


@pytest.mark.slow
def test_the_script_and_a_mistake():
    out = succeed("04_training/docs_task.py", "--show", 1)
    assert out.startswith("test: ") and f"train: {len(pairs('train')):,} pairs" in out
    assert out.count("  -> ") == 4 and "---- which" in out
    with pytest.raises(UserError, match="no split 'dev': choose from test, validation, train"):
        pairs("dev")
