"""Questions about Python's documentation whose answer is a piece of a text to read: no download, no labels.

    python 05_bert_mlm/docs_questions.py --show 3

A text has several lines, each a name and what is written about it. `find` asks what a name does, `which` what some
words are about; the others ask for a part of a sentence that begins or ends with words that say which part it is, such
as "Raise ValueError if ...". A package, such as email, is in one split only (04_training/docs_task.py).
The scores are SQuAD's: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension", section 6.1.
"""

import re
import string
import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import pydocs
from docs_task import SPLITS, STOP_WORDS, documented, pick, sentence, split_of, words
from flags import Parser, UserError, run

CONTEXT, OWN, ANSWER = 280, 170, 80  # most characters of a text, of what it says of the name asked about, of an answer
UNTIL = r"(?P<answer>.{2,}?[^ ])(?= ?[,;]|\.$)"
CLAUSE = r"(?P<answer>[^,;:(]{2,}?[^ ,;:(])(?= ?[,;:(]| if | when | unless | otherwise|\.$)"
NAMED = r"['`*\"]*(?P<what>\w+)['`*\"]*(?: argument| parameter)? "
PATTERNS = (  # a kind, a sentence with an answer in it, and the question
    ("return", r"(?:^|; |\band |\bwhich |\b[Ii]t )[Rr]eturns? (?!(?:[Tt]rue|[Ff]alse|None)\b)" + CLAUSE,
     "What does {name} return?"),
    ("when", r"\b[Rr]eturns? (?P<what>True|true|False|false|None) (?:if|when|iff) (?:\(?and only if\)? )?" + UNTIL,
     "When does {name} return {what}?"),
    ("when", r"\b[Rr]ais(?:es?|ing) (?:an? |the )?`*(?P<what>\w+)`*(?: exception| error)? (?:if|when|unless) " + UNTIL,
     "When does {name} raise {what}?"),
    ("when", r"\b(?P<what>\w+(?:Error|Exception))`* is raised (?:if|when|unless) " + UNTIL,
     "When does {name} raise {what}?"),
    ("when", r"\b(?:[Tt]est|[Cc]heck|[Dd]etermine|[Dd]ecide)s? (?:whether|if) " + UNTIL, "What does {name} test?"),
    ("if", r"^If (?P<what>[^,]{5,60}), (?:then )?(?P<answer>.+)\.$", "In {name}, what happens if {what}?"),
    ("argument", r"^(?:The |An )?(?:optional )?(?:argument |parameter )?" + NAMED
                 + r"(?:is|are|specifies|specify|should be|must be|can be|may be|gives|determines|indicates) "
                 + r"(?=(?:an?|the|either|one|any|how|whether|what)\b)" + CLAUSE, "In {name}, what is {what}?"),
    ("argument", NAMED + "(?:is|are) used to " + CLAUSE, "In {name}, what is {what} used for?"),
    ("argument", NAMED + r"(?:defaults to|\(default is) (?P<answer>.+?)(?=[,;)]|\.$)",
     "In {name}, what is the default of {what}?"),
)
KINDS = "find", "which", "return", "when", "if", "argument"
NO_NAMES = set(re.findall(r"\w+", "this it its that there these those they which and or function method class first"
                                  " last second third other value values argument arguments parameter default"))


@dataclass(frozen=True)
class Question:
    name: str  # such as textwrap.dedent
    question: str
    context: str
    start: int  # where in the context the answer begins
    end: int  # and ends
    package: str  # by which it is split: textwrap
    kind: str  # one of KINDS

    @property
    def answer(self):
        return self.context[self.start : self.end]


def short(name):
    """What the questions call it: "email.message.Message.get" -> "Message.get"."""
    return ".".join(name.removesuffix(".__init__").split(".")[-2:])


def sentences(text):
    """The sentences of a line."""
    while text:
        yield (first := sentence(text))
        text = text[len(first) :].strip()


def prose(docstring):
    """The sentences of a docstring that are words: no examples, no tables."""
    lines = (" ".join(paragraph.split()) for paragraph in docstring.split("\n\n") if ">>>" not in paragraph)
    return [each for line in lines for each in sentences(line) if each.endswith(".") and 20 <= len(each) <= OWN - 20
            and each[0].isalpha() | (each[0] in "'`*\"")
            and sum(c.isalpha() or c == " " for c in each) > 0.85 * len(each)]


@cache
def summaries(package):
    """[(name, line)] for each part of a package that is summed up in a sentence."""
    return [(short(name), f"{short(name)}: {answer}") for name, (answer, _) in documented().get(package, {}).items()]


def beside(name, package, room, seed):
    """Lines about up to two other names of the package, which have room together, as if at random."""
    lines = [line for other, line in summaries(package) if other != short(name)]
    chosen = []
    while len(chosen) < 2 and (lines := [line for line in lines if len(line) < room]):
        chosen.append(lines.pop(pick(f"{len(chosen)} {seed}", range(len(lines)))))
        room -= len(chosen[-1]) + 1
    return chosen


def window(all_sentences, at, seed):
    """Some sentences, that one among them; not always the first."""
    first = max(0, at - pick(f"first {seed}", range(3)))
    while len(" ".join(all_sentences[first : at + 1])) > OWN:
        first += 1
    last = at + 1
    while last < len(all_sentences) and len(" ".join(all_sentences[first : last + 1])) <= OWN:
        last += 1
    return all_sentences[first:last], at - first


def question_at(name, package, kind, question, own, at, answer):
    """The Question about a name: its own sentences and others' stand in any order; (start, end) is in sentence `at`."""
    line = f"{short(name)}: {' '.join(own)}"
    lines = [line, *beside(name, package, CONTEXT - len(line), question)]
    lines.sort(key=lambda each: sha256(f"order {question} {each}".encode()).digest())
    before = len("\n".join(lines[: lines.index(line)])) + (lines.index(line) > 0)
    before += len(short(name)) + 2 + sum(len(each) + 1 for each in own[:at])
    return Question(name, question, "\n".join(lines), before + answer[0], before + answer[1], package, kind)


def looked_up(name, package, summary):
    """A question about one of three lines, `find` or `which`; None where there are no three."""
    found = question_at(name, package, "find", f"What does {short(name)} do?", [summary], 0, (0, len(summary)))
    lines = found.context.split("\n")
    if len(lines) < 3:
        return None
    if pick(f"kind {name}", ("find", "which")) == "find":
        return found
    others = {word for line in lines if line != f"{short(name)}: {summary}" for word in words(line)}
    own = [word for word in dict.fromkeys(words(summary, STOP_WORDS)) if word not in others and word.isalpha()]
    start = found.start - len(short(name)) - 2
    hints = sorted(own, key=lambda word: sha256(f"hint {name} {word}".encode()).digest())[:3]
    asked = f"Which one has to do with {', '.join(hints)}?"
    return Question(name, asked, found.context, start, found.start - 2, package, "which") if len(hints) == 3 else None


def read(name, package, docstring):
    """Yield the questions that the patterns find in a docstring."""
    said = prose(docstring)
    for kind, pattern, form in PATTERNS:
        for at, found in ((at, found) for at, each in enumerate(said) if (found := re.search(pattern, each))):
            what = found.groupdict().get("what")
            if len(found["answer"]) <= ANSWER and not (what and what.lower() in NO_NAMES):
                question = form.format(name=short(name), what=what)
                own, there = window(said, at, question)
                yield question_at(name, package, kind, question, own, there, found.span("answer"))


@cache
def every():
    """All questions, each once, those of the test split first: what two splits would ask is in the first only."""
    found, seen = [], set()
    documentation = pydocs.docstrings(Path(sysconfig.get_paths()["stdlib"]))
    named = [(name, text) for name, text in documentation if not re.search(r"(^|\.)_(?!_init__$)", name)]
    for name, text in sorted(named, key=lambda each: SPLITS.index(split_of(each[0].partition(".")[0]))):
        package = name.partition(".")[0]
        summary, _ = documented().get(package, {}).get(name, (None, None))
        asked = [looked_up(name, package, summary)] if summary and len(summary) <= ANSWER else []
        for each in filter(None, [*asked, *read(name, package, text)]):
            # inherited texts come with many names, and common names with many texts
            keys = {each.question, (each.kind, each.answer, each.question.replace(short(name), ""))}
            if not keys & seen:
                found.append(each)
            seen |= keys
    return found


def questions(split):
    """The questions of "train", "validation" or "test", in the order of the sources."""
    if split not in SPLITS:
        raise UserError(f"no split '{split}': choose from {', '.join(SPLITS)}")
    return [each for each in every() if split_of(each.package) == split]


# ---- scores ----


def normal(text):
    """In small letters, without punctuation and a, an, the: "The list's end." -> "lists end"."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(given, true):
    return float(normal(given) == normal(true))


def f1(given, true):
    """2 common / (given + true), of words: how much of the answer was given, and how much else."""
    given, true = (Counter(normal(text).split()) for text in (given, true))
    return 2 * (given & true).total() / max(1, (given + true).total())


def scores(given, asked):
    """(exact match, F1), both in percent, of answers to questions."""
    return tuple(100 * sum(score(text, each.answer) for text, each in zip(given, asked, strict=True))
                 / max(1, len(asked)) for score in (exact_match, f1))


# ---- answers that take no understanding ----


def parts(context):
    """[(the sentence with its name, the sentence)] of a text."""
    lines = (line.partition(": ") for line in context.split("\n"))
    return [(f"{name} {each}", each) for name, _, text in lines for each in sentences(text)]


def most_alike(each):
    """The sentence that shares most words with the question, by itself and its name."""
    asked = set(words(each.question, STOP_WORDS))
    return max(parts(each.context), key=lambda part: len(asked & set(words(part[0]))))[1]


BASELINES = {"first sentence": lambda each: parts(each.context)[0][1], "whole text": lambda each: each.context,
             "most alike": most_alike}


def table(asked, answers):
    """Lines of exact match and F1 by kind, for answers {who: [text]} to these questions."""
    yield f"{'EM / F1':22}" + "".join(f"{who:>18}" for who in answers)
    for kind in ("all", *KINDS):
        chosen = [i for i, each in enumerate(asked) if kind in ("all", each.kind)]
        row = (scores([given[i] for i in chosen], [asked[i] for i in chosen]) for given in answers.values())
        yield f"{f'{kind} ({len(chosen):,})':22}" + "".join(f"{f'{em:.1f} / {f:.1f}':>18}" for em, f in row)


def main():
    parser = Parser("Show questions about Python's documentation, and how trivial answers fare.")
    parser.add_argument("--show", type=int, default=2, help="how many of each kind, of the test split")
    args = parser.parse()
    for split in SPLITS:
        kinds = Counter(each.kind for each in questions(split))
        print(f"{split}: {kinds.total():,} questions, " + ", ".join(f"{kinds[kind]:,} {kind}" for kind in KINDS))
    asked = questions("test")
    print(*table(asked, {who: [answer(each) for each in asked] for who, answer in BASELINES.items()}), sep="\n")
    for kind in KINDS:
        print(f"---- {kind}")
        for each in [each for each in asked if each.kind == kind][: max(args.show, 0)]:
            print(f"{each.context}\n{each.question}\n  -> {each.answer}\n")


if __name__ == "__main__":
    run(main)
