"""Whether a question and its answer can be kept: read from what a model says, sound, new, and of no exam."""

import json
import re

import pytest
from annotate import Rejected
from family import Problem
from question_checks import (
    check_pair,
    language,
    pair_from,
    read_pair,
    script,
    supported,
)

PASSAGE = ("The lighthouse of Morrow was built in 1874 by the engineer Ada Finch. It has 212 steps, and its lamp can be"
           " seen for 30 miles. A keeper lived there with two dogs until the lamp was made electric in 1931, and today"
           " the tower is a small museum that opens on Sundays only.")
GOOD = {"question": "Who built the lighthouse of Morrow?", "steps": ["The engineer was Ada Finch."],
        "answer": "Ada Finch"}


def pair(question=GOOD["question"], answer=GOOD["answer"], *steps):
    return Problem(question, steps or ("The engineer was Ada Finch.",), answer)


# ---- what a model says ----


@pytest.mark.parametrize("reply", [
    json.dumps(GOOD), f"Sure!\n```json\n{json.dumps(GOOD, indent=2)}\n```\nI hope {{this}} helps.",
    '{} {"a": 1} ' + json.dumps(GOOD) + json.dumps({**GOOD, "question": "Another one?"}),
    "<think>{\"question\": \"no\"}</think>" + json.dumps(GOOD),
    json.dumps({**GOOD, "answer": "no"}) + "</think>" + json.dumps(GOOD),
    json.dumps({**GOOD, "steps": GOOD["steps"][0]}),
    json.dumps(GOOD).replace("]", ",]"), json.dumps(GOOD).replace("}", ",}"), json.dumps(GOOD).replace("]", ""),
    json.dumps(GOOD).replace("?\"", "?\"}\n{"), json.dumps(GOOD)[:-1],
    json.dumps(GOOD).replace("Ada", "\\u0041da"), "\n" * 9000 + json.dumps(GOOD),
    json.dumps(GOOD).replace("Ada Finch", "Ada\u00a0Finch"),
])
def test_pairs_are_read_from_what_models_say(reply):
    assert read_pair(reply) == Problem(GOOD["question"], tuple(GOOD["steps"]), GOOD["answer"])


@pytest.mark.parametrize(("reply", "reason"), [
    ("", "no JSON"), ("[1]", "no JSON"), ("{" * 5000, "no JSON"), ('{"question": ' * 3000, "no JSON"),
    (json.dumps({**GOOD, "answer": "1" * 5000}), "no JSON"),
    ("<think>" + json.dumps(GOOD), "no JSON"), (json.dumps(GOOD)[:60], "no JSON"),
    (json.dumps({"question": "a?", "steps": ["b"]}), "no answer"),
    (json.dumps({**GOOD, "answer": ["x"]}), "no answer"), (json.dumps({**GOOD, "question": None}), "no question"),
    (json.dumps({**GOOD, "steps": [{"a": 1}]}), "steps are no list"), (json.dumps({**GOOD, "steps": []}), "no steps"),
])
def test_other_replies_are_rejected(reply, reason):
    with pytest.raises(Rejected, match=reason):
        pair_from(reply, PASSAGE)


@pytest.mark.parametrize("problem", [
    pair(), pair("When was the lamp of the lighthouse made electric?", "1931", "It was made electric in 1931."),
    pair("How many miles away can the lamp be seen?", "30 miles", "It can be seen for 30 miles."),
    pair("How many steps do keeper and dogs climb, if all three climb the 212 steps?", "636",
         "Three climb 212*3 = <<212*3=636>>636 steps."),
    pair("What is the tower of Morrow now?", "a small museum", "Today it is a museum."),
    pair("Where did the keeper live with his dogs?", "in the lighthouse", "He lived there, in the lighthouse."),
])
def test_sound_pairs_are_kept(problem):
    check_pair(problem, PASSAGE)


@pytest.mark.parametrize(("problem", "reason"), [
    (pair("Tell who built the lighthouse."), "does not end with"), (pair("Who built?"), "question has less than 4"),
    (pair("Who built " + "the lighthouse " * 40 + "?"), "or more than 50 words"),
    (pair(answer="Ada Finch " * 30), "the answer has"), (pair(answer="..."), "the answer has less than 1"),
    (pair(GOOD["question"], "Ada Finch", "..."), "the step has"),
    (pair(GOOD["question"], "Ada Finch", *"a" * 11), "more than 10 steps"),
    (pair("Who built the lighthouse, Ada Finch or her son?", "Ada Finch"), "answer is in the question"),
    (pair("Who built the lighthouse in this passage?"), "it speaks of the passage"),
    (pair(GOOD["question"], "Ada Finch", "According to the text it was Ada Finch."), "it speaks of the passage"),
    (pair(GOOD["question"], "Ada Finch", "As mentioned above, it was she."), "it speaks of the passage"),
    (pair("Wer ist die Frau, die den Turm gebaut hat?"), "another language"),
    (pair("Кто построил маяк в Морроу?"), "another language"),
    (pair("What is the capital city of southern France?", "Morrow", "It is Morrow."), "about something else"),
    (pair(answer="Isambard Brunel"), "answer's words are not in the passage"),
    (pair("When was the lighthouse built?", "1875", "It was built in 1875."), "1875 in 1875"),
    (pair("How many steps has the lighthouse?", "42", "It has 6*7 = <<6*7=42>>42 steps."), "no number of the passage"),
    (pair("How many steps has the lighthouse?", "213", "It has <<212+1=214>>214 steps."), "a note is wrong"),
    (pair("How many steps has the lighthouse?", "212", "It has many steps."), "not in the last step"),
    (pair(GOOD["question"], "#1"), "a # in a step"),
])
def test_each_fault_has_its_reason(problem, reason):
    with pytest.raises(Rejected, match=re.escape(reason)):
        check_pair(problem, PASSAGE)


def test_languages():
    for text, name in ((PASSAGE, "English"), ("Der Turm ist nicht mit dem Zug zu erreichen.", "German"),
                       ("Où est la tour qui est dans le parc ?", "French"),
                       ("¿Qué es lo que se ve en la torre?", "Spanish"),
                       ("Waar is de toren van het dorp?", "Dutch"), ("Python", None), ("", None)):
        assert language(text) == name
    assert [script(text) for text in ("Morrow", "маяк", "東京", "12")] == ["LATIN", "CYRILLIC", "CJK", None]


def test_words_are_supported_by_their_beginnings():
    assert supported("returning a value", "it returns values") == 1 and supported("the of", "") == 1
    assert supported("return three apples", "it returns apples") == pytest.approx(2 / 3)
    assert supported("art", "artist") == 0, "short words count whole"
