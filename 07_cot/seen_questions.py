"""Which questions are new: not there already, not nearly, and none of an exam's."""

import sys
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from annotate import Rejected
from chat_data import records
from exam_questions import file_of
from flags import UserError
from question_checks import normal, words_of

PRIME = (1 << 31) - 1  # a product of two numbers below it fits into 64 bits


def shingles(text, width=2):
    """All rows of so many words that a text has: "a b c" -> {"a b", "b c"}."""
    words = words_of(text)
    return {" ".join(words[i : i + width]) for i in range(max(1, len(words) - width + 1))}


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
    """{question: where it stands} of files with a question in each line, or of corpora such as gsm8k/test.jsonl."""
    found = {}
    for name in names:
        path = file_of(name) if name.startswith("gsm8k") else Path(name)
        for where, record in records(path):
            if not isinstance(record, dict) or not isinstance(record.get("question"), str):
                raise UserError(f"{name}, {where}: no question: each line must hold one to stay apart from")
            found[record["question"]] = f"{name}, {where}"
    return found
