"""What a family of problems is: it asks, thinks step by step, and knows which steps and answers are right.

A problem is a line of text. A question ends with its only "?", then come steps, each followed by ";", then "#" and the
answer: `3*9+6*8?3*9=7;7+6=3;3*8=4;#4`. Without the steps it is a direct answer: `3*9+6*8?#4`.
"""

import hashlib
import re
from dataclasses import dataclass

import numpy as np

WAIT = "wait"  # a step that takes back the one before it


@dataclass(frozen=True)
class Problem:
    question: str
    steps: tuple[str, ...]
    answer: str

    @property
    def chain(self):
        """What a model that thinks has to write after the question."""
        return write_chain(self.steps, self.answer)


def write_chain(steps, answer):
    """(["3*9=7", "7+6=3"], "3") -> "3*9=7;7+6=3;#3"."""
    return f"{write_steps(steps)}#{answer}"


def write_steps(steps):
    """["3*9=7", "7+6=3"] -> "3*9=7;7+6=3;", the beginning of a chain."""
    return "".join(f"{step};" for step in steps)


def encoded(text, tokenizer):
    """Ids of a question, of what stands behind it, or of both; each "?", ";" and "#" is encoded by itself.

    So a thought that is added changes no id before it, whatever the tokenizer joins elsewhere; for one of characters it
    is `tokenizer.encode(text)`.
    """
    return [i for piece in re.findall(r"[?;#]|[^?;#]+", text)
            for i in tokenizer.encode(piece, disallowed_special=())]


def read_chain(text):
    """"3*9=7;7+6=3;#3" -> (["3*9=7", "7+6=3"], "3"); the answer is None if there is none."""
    thoughts, mark, answer = text.partition("#")
    steps = thoughts.split(";")
    if not steps[-1]:
        steps.pop()  # what stands behind the last ";"
    return steps, answer.strip() if mark else None


def kept(steps):
    """Where the steps stand that were not taken back: ["3*9=8", "wait", "3*9=7"] -> [2]."""
    places = []
    for i, step in enumerate(steps):
        if step != WAIT:
            places.append(i)
        elif places:
            places.pop()
    return places


def result(step):
    """The number behind the last "=" of a step. Raises ValueError if there is none."""
    word = step.rpartition("=")[2]
    if not (word.isascii() and word.isdigit()):
        raise ValueError(f"'{step}' has no result")
    return int(word)


class Family:
    """A kind of problem. `difficulty` is how many operations, digits, lines or people a question has."""

    difficulty = 6
    easiest, hardest = 1, 40
    order_matters = True  # else a question is the same with its words in another order

    def ask(self, random, difficulty):
        """A question, drawn with a numpy generator."""
        raise NotImplementedError

    def think(self, question):
        """A generator of right steps: it yields one, is sent the step that was claimed in its place, and goes on from
        what that claims; it returns the answer. So the same lines solve a question and judge somebody else's chain.

        Raises ValueError at a question that it can't read, or a claim that it can't go on from.
        """
        raise NotImplementedError

    def operands(self, question):
        """What of the question a chain has to use, as texts."""
        raise NotImplementedError

    def solve(self, question):
        """The Problem with its right steps and answer. Raises ValueError at a question of another kind."""
        thinker, steps = self.think(question), []
        try:
            step = next(thinker)
            while True:
                steps.append(step)
                step = thinker.send(step)
        except StopIteration as end:
            return Problem(question, tuple(steps), end.value)

    def judge(self, question, steps):
        """(for each step whether it follows from the question and the steps before it, the answer that follows).

        A step that goes on rightly from a wrong one follows. What was taken back claims nothing, and is never wrong.
        The answer is None if the chain does not get there.
        """
        places, right = kept(steps), [True] * len(steps)
        follows, answer = self.follow(question, [steps[i] for i in places])
        for i, follows_there in zip(places, follows):
            right[i] = follows_there
        return right, answer

    def follow(self, question, steps):
        """`judge` where nothing was taken back."""
        thinker, right = self.think(question), []
        try:
            wanted = next(thinker)
            for step in steps:
                right.append(step == wanted)
                wanted = thinker.send(step)
        except StopIteration as end:
            # what comes after the end of all thoughts follows from nothing
            complete = len(right) == len(steps)
            return right + [False] * (len(steps) - len(right)), end.value if complete else None
        except ValueError:
            right += [False] * (len(steps) - len(right))
        return right, None

    def right(self, question, answer):
        """Whether it is an answer to the question."""
        return answer == self.solve(question).answer

    def normal(self, question):
        """The same text for questions that are the same problem."""
        words = question.lower().replace("?", " ").split()
        return " ".join(words if self.order_matters else sorted(words))


def split_of(family, question):
    """"train", "validation" or "test": by the hash of the normalised question, so that no problem is in two of them."""
    number = int.from_bytes(hashlib.sha256(family.normal(question).encode()).digest()[:4], "big") % 20
    return {0: "validation", 1: "test"}.get(number, "train")


def problems(family, split, count, seed, difficulty=None):
    """`count` different Problems of a split; fewer where the family has not so many."""
    random = np.random.default_rng((seed, ["train", "validation", "test"].index(split)))
    found, in_vain = {}, 0
    while len(found) < count and in_vain < 1000:
        question = family.ask(random, difficulty or family.difficulty)
        name = family.normal(question)
        if name in found or split_of(family, question) != split:
            in_vain += 1
        else:
            found[name], in_vain = question, 0
    return [family.solve(question) for question in found.values()]
