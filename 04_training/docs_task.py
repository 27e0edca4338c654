"""Questions about Python's own documentation, with answers, preferences and a judge: no download, no labels.

    python 04_training/docs_task.py --show 5

A docstring opens with a sentence that sums it up: that is the answer. How it is asked for follows from a hash of the
name, from what a model must guess to what it must only look up: `asked` gives the name alone, `which` the answer and
three names, `find` three answers, `read` the documentation. A package, such as email, is in one split only; but a model
that was trained on the corpus pydocs has read all of them.
"""

import re
import sys
import sysconfig
import textwrap
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import pydocs
from flags import Parser, UserError, run

SPLITS = ("test", "validation", "train")  # an answer that two of them have stays in the first
SHORTEST, LONGEST, CONTEXT = 20, 200, 400  # characters of an answer, and of a text to read
STOP_WORDS = set(re.findall(r"\w+", "a an the this that it its of to in on at for from by with and or as if is are be"))
QUESTIONS = {  # the last line asks
    "asked": ("What does {name} do?", "Explain {name}.", "What is {name} for?", "Describe {name} in one sentence."),
    "which": ("Here are three parts of Python:\n{names}\nWhich of them fits this: {answer}",),
    "find": ("Here is what three parts of Python do:\n{answers}\nWhat does {name} do?",),
    "read": ("Here is the documentation of {name}:\n{text}\nWhat does it do, in one sentence?",
             "Read what is written about {name}:\n{text}\nSum it up in one sentence."),
}
KINDS = (*["asked"] * 2, *["which"] * 2, *["find"] * 2, *["read"] * 4)  # tenths; what can't be had becomes "asked"
FLAWS = ("truncated", "repetitive", "other")


@dataclass(frozen=True)
class Pair:
    name: str  # such as textwrap.dedent
    question: str
    answer: str  # one sentence with its full stop
    package: str  # by which it is split: textwrap
    kind: str  # one of QUESTIONS


@dataclass(frozen=True)
class Preference:
    question: str
    chosen: str
    rejected: str
    why: str  # one of FLAWS


def pick(text, among):
    """One of several, as if at random, but the same on every machine."""
    return among[int.from_bytes(sha256(text.encode()).digest()[:8], "big") % len(among)]


def split_of(package):
    """Tenths of the packages; with 17 they are about tenths of the questions, too, and the largest are for training."""
    return pick(f"17 {package}", ("test", "validation", *["train"] * 8))


def sentence(text):
    """The first sentence of a text: "Read e.g. a file.  Then ..." -> "Read e.g. a file."."""
    ends = re.finditer(r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)[.!?](?=\s+[^a-z])", text)
    return text[: next((end.end() for end in ends), len(text))]


def summary(docstring):
    """(the sentence that sums it up, or None if it is of no use; that and all the rest in one line)."""
    first, *rest = (" ".join(paragraph.split()) for paragraph in docstring.strip().split("\n\n"))
    answer = sentence(first)
    rest.insert(0, first[len(answer) :].strip())
    answer += "" if answer.endswith((".", "!", "?")) else "."
    useful = (
        SHORTEST <= len(answer) <= LONGEST and len(words(answer, STOP_WORDS)) >= 3
        and re.match(r"[A-Z][a-z]*[ ,-]", answer)  # no signature, no grammar, no "self-explanatory"
        and not re.search(r"->|>>>|==|:\.|\.\.\.|:param|@|\*\*|Internal|[Cc]opyright|TODO|XXX|gencodec", answer)
        and sum(c.isalpha() or c == " " for c in answer) > 0.85 * len(answer)
    )
    return (answer if useful else None), " ".join(filter(None, [answer, *rest]))


@cache
def documented():
    """package -> {name: (answer, documentation)}, those of the test split first, and each answer once."""
    found, first = {}, {}
    for name, docstring in pydocs.docstrings(Path(sysconfig.get_paths()["stdlib"])):
        if not re.search(r"(^|\.)_", name):
            found.setdefault(name.partition(".")[0], {}).setdefault(name, summary(docstring))
    for package in sorted(found, key=lambda package: SPLITS.index(split_of(package))):
        names = found.pop(package)  # and back again, behind those that are done
        found[package] = {name: (answer, text) for name, (answer, text) in names.items()
                          if answer and first.setdefault(normal(answer), name) == name}
    return found


def neighbours(name, names):
    """Two other names of the same package, or fewer if it has no more; with answers that don't make a text long."""
    others = [other for other, (answer, _) in names.items() if other != name and len(answer) <= CONTEXT / 3]
    return [others.pop(pick(f"{i} {name}", range(len(others)))) for i in range(min(2, len(others)))]


def pairs(split):
    """The questions and answers of "train", "validation" or "test", in the order of the sources."""
    if split not in SPLITS:
        raise UserError(f"no split '{split}': choose from {', '.join(SPLITS)}")
    found = []
    for package, names in documented().items():
        for name, (answer, text) in names.items() if split_of(package) == split else ():
            kind, others = pick(f"kind {name}", KINDS), neighbours(name, names)
            if len(text) < len(answer) + SHORTEST if kind == "read" else len(others) < 2:
                kind = "asked"
            three = sorted([name, *others], key=lambda each: sha256(f"order {name} {each}".encode()).digest())
            question = pick(f"form {name}", QUESTIONS[kind]).format(
                name=name, answer=answer, text=textwrap.shorten(text, CONTEXT, placeholder=" ..."),
                names="\n".join(three), answers="\n".join(f"{each}: {names[each][0]}" for each in three))
            found.append(Pair(name, question, f"{name}." if kind == "which" else answer, package, kind))
    return found


def preferences(split):
    """For every pair, its answer and a worse one: another's, its first half, or its first half three times."""
    found = []
    for pair in pairs(split):
        names, said = documented()[pair.package], pair.answer.split()
        half, others = " ".join(said[: (len(said) + 1) // 2]).rstrip(".,:;"), neighbours(pair.name, names)
        why = "other" if pair.kind == "which" else pick(f"why {pair.name}", FLAWS if others else FLAWS[:2])
        other = f"{others[0]}." if pair.kind == "which" else names[others[0]][0] if others else ""
        worse = dict(zip(FLAWS, (half, f"{half} {half} {half}.", other)))
        found.append(Preference(pair.question, pair.answer, worse[why], why))
    return found


def normal(text):
    return " ".join(text.lower().split()).rstrip(". ")


def words(text, but=()):
    return [word for word in re.findall(r"\w+(?:\.\w+)*", text.lower()) if word not in but]


def grams(listed, n):
    return list(zip(*(listed[i:] for i in range(n))))


def copy_rate(pair, answer):
    """The share of the answer's triples of words that stand in the question, with all there is to read."""
    three, there = grams(words(answer), 3), set(grams(words(pair.question), 3))
    return sum(gram in there for gram in three) / max(len(three), 1)


def reward(pair, answer):
    """How good an answer is, from 0 to 1: F E V L (1 - C); the true answer has 1.

    F is SQuAD's F1 (Rajpurkar et al. 2016, section 6.1), 2 common / (given + true), of the bags of content words and of
    pairs of neighbouring words of any kind, so that order and grammar count. E is 1/2 if it does not end as a sentence
    does. V is the share of its pairs of words that are no repetition, as a part of the true answer's. L is 1.5 times
    the true number of words over its own, if that is below 1. C is its copy rate from the line that asks.
    """
    twos = [grams(words(text), 2) for text in (answer, pair.answer)]
    given, true = (Counter(words(text, STOP_WORDS) + two) for text, two in zip((answer, pair.answer), twos))
    f1 = 2 * (given & true).total() / (given + true).total()
    ended = 1.0 if answer.rstrip().endswith((".", "!", "?")) else 0.5
    given, true = (len(set(two)) / len(two) if two else 1.0 for two in twos)
    varied = min(1.0, given / true)
    short = min(1.0, 1.5 * len(words(pair.answer)) / max(len(words(answer)), 1))
    asking = replace(pair, question=pair.question.rpartition("\n")[2])
    return f1 * ended * varied * short * (1 - copy_rate(asking, answer))


def exact(pair, answer):
    """Whether it is the true answer but for case, white space and the last full stop."""
    return normal(answer) == normal(pair.answer)


def first_sentence(pair):
    """What takes no understanding: the first sentence or name of what there is to read, else the name's own words."""
    line = pair.question.split("\n")[1] if pair.kind != "asked" else pair.name.rpartition(".")[2].replace("_", " ")
    line = line.partition(": ")[2] if pair.kind == "find" else line
    return f"{line}." if pair.kind in ("asked", "which") else sentence(line)


def win_rate(rewards_a, rewards_b):
    """How often a is better than b, ties counted half: [1, 0, 1], [0, 0, 0] -> 5/6."""
    return sum((a > b) + (a == b) / 2 for a, b in zip(rewards_a, rewards_b, strict=True)) / len(rewards_a)


def main():
    parser = Parser("Show the questions about Python's documentation, and how trivial answers fare.")
    parser.add_argument("--show", type=int, default=2, help="how many of each kind, of the test split")
    args = parser.parse()
    for split in SPLITS:
        kinds = Counter(pair.kind for pair in pairs(split))
        print(f"{split}: {kinds.total():,} pairs, " + ", ".join(f"{kinds[kind]:,} {kind}" for kind in QUESTIONS))
    for kind in QUESTIONS:
        of_kind = [pair for pair in pairs("test") if pair.kind == kind]
        rewards = [reward(pair, first_sentence(pair)) for pair in of_kind]
        print(f"---- {kind}: the first sentence has a reward of {sum(rewards) / max(len(rewards), 1):.3f}")
        for pair in of_kind[: max(args.show, 0)]:
            print(f"{pair.question}\n  -> {pair.answer}\n")


if __name__ == "__main__":
    run(main)
