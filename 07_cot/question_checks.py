"""What a question-answer pair that a model wrote has to be before anything learns from it.

    pair_from('{"question": "...", "steps": ["..."], "answer": "..."}', passage)    # a Problem, or raises Rejected

No check knows whether an answer is true: they see whether it can come from the passage. What they find wrong surely is
of no use, and what they let pass may still be wrong; a sample has to be read.
"""

import json
import re
import sys
import unicodedata
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from annotate import NUMBER, Rejected, check, plain, problem_of
from extraction import without_thoughts

DECODER = json.JSONDecoder(strict=False)  # models put line ends into their texts
STRING = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"'
WORDS = {"question": (4, 50), "answer": (1, 40), "step": (1, 60)}  # least and most
MOST_STEPS = 10
LONGEST_REPLY = 4000  # characters: what is longer is no pair
TYPED = str.maketrans("‘’“”–—\u00a0", "''''-- ")  # what every tokenizer of the course has
ANSWER_SUPPORTED, QUESTION_SUPPORTED = 0.75, 0.5  # least shares of their words that have to stand in the passage
ABOUT_THE_TEXT = re.compile(
    r"\b(the|this|that|given|above|provided) (given |provided |above |following )?(passage|excerpt|paragraph|snippet)\b"
    r"|\b(according to|in|from|by|as) (the|this) (given |provided |above |following )?(text|document|article)\b"
    r"|\b(mentioned|described|stated) (above|below|here)\b", re.IGNORECASE)
FUNCTION_WORDS = {language: frozenset(words.split()) for language, words in {
    "English": "the of and to is in a that it for with as be are was by an or not this on which what who how when where"
               " why many much do does did can at from has have will if",
    "German": "der die das und ist ein eine nicht zu den mit von auf für sich dem wird im auch was wer wie wann wo",
    "French": "le la les et est un une des que dans pour pas du qui en sur au ne quel quelle comment où quand",
    "Spanish": "el la los las y es un una que en por con para no del se lo qué quién cómo cuándo dónde",
    "Italian": "il la di che e un una per non con del sono della si le i cosa chi come quando dove",
    "Portuguese": "o a os as e é um uma que em para não com do da quem como quando onde",
    "Dutch": "de het een en is van dat niet op te met voor zijn aan wat wie hoe wanneer waar",
}.items()}
ALL_FUNCTION_WORDS = frozenset().union(*FUNCTION_WORDS.values())


def words_of(text):
    """"Don't stop, os.path!" -> ["don", "t", "stop", "os", "path"]."""
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold())


def normal(question):
    """The same text for questions that differ in case, marks and spaces alone."""
    return " ".join(words_of(question))


# ---- from a reply to a problem ----


def object_in(text):
    """The first JSON object with a question in a text, {} if there is none.

    Small models forget brackets: then the texts behind "question" and "answer" count, and those between as steps.
    """
    partly = {}
    for brace in re.finditer("{", text):
        try:
            value, _ = DECODER.raw_decode(text, brace.start())
        except (ValueError, RecursionError):
            continue
        if {"question", "answer"} <= value.keys():
            return value
        partly = partly or (value if "question" in value else {})
    if found := re.search(rf'"question": *({STRING})(.*)"answer": *({STRING})', text, re.DOTALL):
        question, between, answer = found.groups()
        steps = re.findall(STRING, between.partition('"steps"')[2])
        return dict(zip(("question", "steps", "answer"), json.loads(f"[{question}, [{', '.join(steps)}], {answer}]")))
    return partly


def read_pair(text):
    """The Problem in a reply: JSON {question, steps, answer}, fenced or amid other text. Raises Rejected."""
    text = (without_thoughts(text) or "").translate(TYPED)
    value = object_in(text) if len(text) <= LONGEST_REPLY else {}
    if not value:
        raise Rejected("no JSON object with a question", text[:200])
    steps = value.get("steps")
    return problem_of({"question": value["question"], "answer": value.get("answer"),
                       "steps": [steps] if isinstance(steps, str) else steps or []})


# ---- what is wrong with it ----


def language(text):
    """The language most of whose function words a text has; None where that is not clear."""
    count = Counter(words_of(text))
    found = sorted(((sum(count[word] for word in words), name) for name, words in FUNCTION_WORDS.items()), reverse=True)
    (most, name), (next_most, _), *_ = found
    return name if most >= 2 and most > next_most else None


def script(text):
    """The alphabet of most of its letters, such as LATIN or CYRILLIC; None without letters."""
    count = Counter(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())
    return count.most_common(1)[0][0] if count else None


def supported(text, passage):
    """The share of a text's words, without numbers and function words, that the passage has; 1 if it has none.

    Of a long word its beginning is enough: "returning" is supported by "returns".
    """
    there = set(words_of(passage))
    words = [word for word in words_of(text) if not word.isdigit() and word not in ALL_FUNCTION_WORDS]

    def found(word):
        begin = word[: max(4, len(word) - 3)]
        return word in there or len(begin) < len(word) and any(other.startswith(begin) for other in there)

    return sum(map(found, words)) / len(words) if words else 1.0


def numbers_of(text):
    return {plain(number) for number in re.findall(NUMBER, text)}


def check_numbers(problem, passage):
    """Raise Rejected where the answer, or a calculator note, has numbers that come from nowhere."""
    known = numbers_of(f"{problem.question} {passage}")
    for note in re.findall(r"<<([^<>]*)>>", " ".join(problem.steps)):
        term, _, claim = note.partition("=")
        if not numbers_of(term) & known:
            raise Rejected("a note computes with no number of the passage", note)
        known |= numbers_of(claim)
    if missing := numbers_of(problem.answer) - known:
        raise Rejected("a number of the answer comes from nowhere", f"{min(missing)} in {problem.answer}")


def check_lengths(problem):
    for name, text in (("question", problem.question), ("answer", problem.answer),
                       *(("step", step) for step in problem.steps)):
        least, most = WORDS[name]
        if not least <= len(words_of(text)) <= most:
            raise Rejected(f"the {name} has less than {least} or more than {most} words", text)
    if len(problem.steps) > MOST_STEPS:
        raise Rejected(f"more than {MOST_STEPS} steps", f"{len(problem.steps)} for {problem.question}")


def check_pair(problem, passage):
    """Raise Rejected for a pair that can't be answered from the passage alone, or gives itself away."""
    check(problem)
    whole = " ".join((problem.question, *problem.steps, problem.answer))
    if not problem.question.endswith("?"):
        raise Rejected("the question does not end with ?", problem.question)
    check_lengths(problem)
    if f" {normal(problem.answer)} " in f" {normal(problem.question)} ":
        raise Rejected("the answer is in the question", f"{problem.answer}: {problem.question}")
    if found := ABOUT_THE_TEXT.search(whole):
        raise Rejected("it speaks of the passage", f"'{found[0]}' in {whole}")
    asked = f"{problem.question} {problem.answer}"
    for tell in (script, language):
        if None not in (told := (tell(asked), tell(passage))) and told[0] != told[1]:
            raise Rejected("another language than the passage's", f"{told[0]}, not {told[1]}: {asked}")
    if supported(problem.question, passage) < QUESTION_SUPPORTED:
        raise Rejected("the question is about something else", problem.question)
    check_numbers(problem, passage)
    if supported(problem.answer, passage) < ANSWER_SUPPORTED:
        raise Rejected("the answer's words are not in the passage", f"{problem.answer}: {problem.question}")


def pair_from(reply, passage):
    """The Problem that a model made of a passage. Raises Rejected."""
    problem = read_pair(reply)
    check_pair(problem, passage)
    return problem


def checked(problem, family):
    """The Problem of a family. Raises Rejected where it is wrong."""
    check(problem, family)
    return problem
