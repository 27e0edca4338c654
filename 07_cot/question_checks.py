"""What a question-answer pair that a model wrote has to be before anything learns from it, and near duplicates.

    pair_from('{"question": "...", "steps": ["..."], "answer": "..."}', passage)    # a Problem, or raises Rejected

No check knows whether an answer is true: they see whether it can come from the passage. What they find wrong surely is
of no use, and what they let pass may still be wrong; a sample has to be read.
"""

import json
import os
import re
import sys
import unicodedata
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import corpora
from annotate import NUMBER, Rejected, check, plain, problem_of
from chat_data import records
from extraction import without_thoughts
from flags import UserError

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


# ---- near duplicates ----

PRIME = (1 << 31) - 1  # a product of two numbers below it fits into 64 bits


def shingles(text, width=2):
    """All rows of so many words that a text has: "a b c" -> {"a b", "b c"}."""
    words = words_of(text)
    return {" ".join(words[i : i + width]) for i in range(max(1, len(words) - width + 1))}


def resemblance(one, other):
    """Jaccard: the share of all shingles of two texts that both have."""
    one, other = shingles(one), shingles(other)
    return len(one & other) / len(one | other)


class NearDuplicates:
    """Finds a text that resembles another one among many, by MinHash, without a comparison with each.

    The least of all shingles' hashes is the same for two texts with a probability that is their resemblance, so the
    share of equal ones among many hash functions estimates it. Only texts are compared that agree in all hashes of
    one of the bands: at a resemblance of 0.7 that misses (1 - 0.7^4)^32 = 0.02 %.
    Broder 1997, "On the resemblance and containment of documents".
    """

    def __init__(self, least=0.7, hashes=128, bands=32, seed=1337):
        random = np.random.default_rng(seed)
        self.a, self.b = random.integers(1, PRIME, (2, hashes, 1), dtype=np.uint64)
        self.least, self.bands = least, bands
        self.known, self.buckets = [], {}

    def signature(self, text):
        """The least hash of a text's shingles under each of the functions h(x) = (a x + b) mod p."""
        x = np.array([zlib.crc32(shingle.encode()) % PRIME for shingle in shingles(text)], dtype=np.uint64)
        return ((self.a * x + self.b) % PRIME).min(axis=1)

    @staticmethod
    def estimate(one, other):
        """The estimated resemblance of the texts of two signatures; its deviation is at most 0.5 / sqrt(hashes)."""
        return float((one == other).mean())

    def keys(self, signature):
        return [(i, band.tobytes()) for i, band in enumerate(np.split(signature, self.bands))]

    def find(self, text):
        """A text that was added before and resembles this one; None if there is none."""
        signature = self.signature(text)
        near = {at for key in self.keys(signature) for at in self.buckets.get(key, ())}
        ranked = sorted((-self.estimate(signature, self.known[at][1]), at) for at in near)
        return self.known[ranked[0][1]][0] if ranked and -ranked[0][0] >= self.least else None

    def add(self, text):
        signature = self.signature(text)
        for key in self.keys(signature):
            self.buckets.setdefault(key, []).append(len(self.known))
        self.known.append((text, signature))


# ---- what was seen before ----


class Seen:
    """The questions that are there already, and those that must stay apart, such as an exam's.

    Two problems of a family may differ in a digit alone: only the same problem counts as seen. Other questions must
    not even resemble another one.
    """

    def __init__(self, apart=None, prompts=()):
        self.apart, self.names = apart or {}, set()  # {question: where it is from}
        self.near_apart, self.near = NearDuplicates(), NearDuplicates()
        for question in self.apart:
            self.near_apart.add(question)
        for question in prompts:
            self.near.add(question)

    def name(self, question, family=None):
        return family.normal(question) if family else normal(question)

    def check(self, question, family=None):
        """Raise Rejected for a question that was added before, or must stay apart."""
        if self.name(question, family) in self.names:
            raise Rejected("the question is there already", question)
        other = (question if question in self.apart else None) if family else self.near_apart.find(question)
        if other is not None:
            raise Rejected("the question must stay apart", f"{self.apart[other]}: {other}")
        if not family and (other := self.near.find(question)):
            raise Rejected("nearly the same question is there already", f"{other} {question}")

    def add(self, question, family=None):
        self.names.add(self.name(question, family))
        if not family:
            self.near.add(question)


def questions_apart(names):
    """{question: where it stands} of files with a question in each line, or of named corpora such as gsm8k/test.jsonl.

    SHARED_DATA, if set, holds the corpora in folders of their names.
    """
    found = {}
    for name in names:
        path = corpora.find(name, os.environ.get("SHARED_DATA"))[0][0] if name.startswith("gsm8k") else Path(name)
        for where, record in records(path):
            if not isinstance(record, dict) or not isinstance(record.get("question"), str):
                raise UserError(f"{name}, {where}: no question: each line must hold one to stay apart from")
            found[record["question"]] = f"{name}, {where}"
    return found
