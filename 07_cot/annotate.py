"""Turn a set of problems into questions, steps and answers: what is wrong is left out, counted and shown.

    python 07_cot/annotate.py -d knights --problems 2000 -o knights.jsonl    # a family, checked by its own judge
    python 07_cot/annotate.py -d gsm8k -o gsm8k.jsonl                     # GSM8K's rationales, each note computed again
    python 07_cot/annotate.py -d gsm8k/test.jsonl -o gsm8k_test.jsonl     # its own test problems stay apart
    python 07_cot/annotate.py -d mine.jsonl -o chains.jsonl               # one's own; with --family ... judged by that

Lines of one's own file hold {"question", "steps" (a list) or "chain" (a text), "answer"}, or GSM8K's {"question",
"answer"} with the steps before "####"; what is written holds {"question", "steps", "answer", "source"}. Which split a
problem is in depends on its question alone, so that splits of any files don't overlap.
"""

import json
import re
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import flags
from atomic import replacing
from chat_data import records
from exam_questions import file_of
from family import Family, Problem, split_of
from flags import UserError, shown
from tasks import FAMILIES, draw, find

SPLITS = {"train": 18, "validation": 1, "test": 1}  # twentieths, as split_of deals them
NUMBER = r"\d+(?:[, ]\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+"  # 1,000 or 1 000, 2.50, .5


class Rejected(ValueError):
    """Why a record is no problem: a reason that is counted, and what exactly is wrong with this one."""

    def __init__(self, reason, wrong):
        super().__init__(f"{reason}: {wrong}")
        self.reason, self.wrong = reason, wrong


# ---- arithmetic, exact ----


def compute(text):
    """"3/4*(20%+1)" -> Fraction(9, 10): + - * /, // as Python's, ( ), decimals, percent. Raises ValueError."""
    tokens = re.findall(r"\d+\.?\d*|\.\d+|//|\S", text.replace(",", ""), re.ASCII)[::-1]

    def chained(part, operations):
        value = part()
        while tokens and tokens[-1] in operations:
            value = operations[tokens.pop()](value, part())
        return value

    def total():
        return chained(product, {"+": lambda a, b: a + b, "-": lambda a, b: a - b})

    def product():
        return chained(single, {"*": lambda a, b: a * b, "/": lambda a, b: a / b, "//": lambda a, b: Fraction(a // b)})

    def single():
        token = tokens.pop()
        if token in "+-":
            return single() * (-1 if token == "-" else 1)
        value = total() if token == "(" else Fraction(token)
        if token == "(" and tokens.pop() != ")":
            raise ValueError("a ( is not closed")
        while tokens and tokens[-1] == "%":
            tokens.pop()
            value /= 100
        return value

    try:
        value = total()
        if tokens:
            raise ValueError("it goes on behind its end")
    except (ValueError, IndexError, ZeroDivisionError, RecursionError) as error:
        raise ValueError(f"'{text[:80]}' can't be computed") from error
    return value


def check_notes(step):
    """Raise Rejected where a note such as <<3*4=12>> is wrong, or the text goes on with another number."""
    notes = re.findall(r"<<([^<>]*)>>(\d[\d,]*\.?\d*(?:/\d+)?|\.\d+)?", step)
    if not len(notes) == step.count("<<") == step.count(">>"):
        raise Rejected("a note is broken", step)
    for note, said in notes:
        term, equals, claim = note.partition("=")
        try:
            value = compute(term)
            right = bool(equals) and value == compute(claim)
        except ValueError as error:
            raise Rejected("a note can't be computed", note) from error
        if not right:
            raise Rejected("a note is wrong", f"{note} (it is {value})")
        if said and compute(said) != value:
            raise Rejected("a note and the text behind it differ", f"<<{note}>>{said}")


def plain(number):
    return Fraction(re.sub("[, ]", "", number))


# ---- from records to problems ----


def text_of(record, name):
    value = record.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise Rejected(f"no {name}", json.dumps(value)[:80])
    return value.strip()


def problem_of(record):
    """The Problem that a record of any of the forms holds. Raises Rejected."""
    if not isinstance(record, dict):
        raise Rejected("no object with names", json.dumps(record)[:80])
    question, thoughts, answer = text_of(record, "question"), record.get("steps"), text_of(record, "answer")
    if thoughts is None and "chain" not in record:
        thoughts, mark, answer = answer.rpartition("####")
        if not mark:
            raise Rejected("no steps, no chain, and no #### in the answer", question)
    elif thoughts is None:
        thoughts, mark, said = text_of(record, "chain").partition("####" if "####" in record["chain"] else "#")
        if mark and without_commas(said) != without_commas(answer):
            raise Rejected("the chain ends with another answer", f"{said.strip()}, not {answer}")
    elif not isinstance(thoughts, list) or not all(isinstance(step, str) for step in thoughts):
        raise Rejected("steps are no list of texts", json.dumps(thoughts)[:80])
    else:
        thoughts = "\n".join(thoughts)
    steps = tuple(step.strip() for step in re.split("[\n;]", thoughts) if step.strip())
    return Problem(question, steps, without_commas(answer))


def without_commas(answer):
    """" $1,080" -> "1080", as far as it is a number."""
    answer = answer.strip()
    number = re.fullmatch(rf"(-?)\$?({NUMBER})", answer)
    return number[1] + re.sub("[, ]", "", number[2]) if number else answer


def check_text(problem):
    """Raise Rejected for steps in a natural language that can be seen to be wrong: notes, and how they end."""
    for step in problem.steps:
        check_notes(step)
    if re.fullmatch(rf"-?({NUMBER})", problem.answer):
        numbers = [plain(number) for number in re.findall(NUMBER, problem.steps[-1])]
        if abs(Fraction(problem.answer)) not in numbers:
            raise Rejected("the answer is not in the last step", f"{problem.answer}: {problem.steps[-1]}")


def check_exactly(family, problem):
    """Raise Rejected for what the family's own judge finds wrong."""
    try:
        family.solve(problem.question)
    except ValueError as error:
        raise Rejected("no question of this family", error) from error
    right, answer = family.judge(problem.question, problem.steps)
    if not all(right):
        raise Rejected("a step does not follow", problem.steps[right.index(False)])
    if answer != problem.answer or not family.right(problem.question, problem.answer):
        raise Rejected("the answer does not follow, or is wrong", f"{problem.answer}, not {answer}")


def check(problem, family=None):
    """Raise Rejected for a problem that should not be learned from."""
    if not problem.steps:
        raise Rejected("no steps", problem.question)
    if not problem.answer:
        raise Rejected("no answer", problem.question)
    if any("#" in step for step in (*problem.steps, problem.answer)):
        raise Rejected("a # in a step or answer, where it would begin the answer", problem.chain)
    if family:
        check_exactly(family, problem)
    else:
        check_text(problem)


def annotated(listed, family=None):
    """[(where it stands, record or Problem)] -> (the problems that are right, [(where, Rejected) of all others])."""
    kept, rejected, seen = [], [], {}
    for where, record in listed:
        try:
            problem = record if isinstance(record, Problem) else problem_of(record)
            check(problem, family)
            name = (family or Family()).normal(problem.question)
            if name in seen:
                raise Rejected("the question is there already", f"{seen[name]}: {problem.question}")
            seen[name] = where
            kept.append(problem)
        except Rejected as error:
            rejected.append((where, error))
    return kept, rejected


# ---- files ----


def source_of(args):
    """What -d names: (its name, [(where, record or Problem)], its family or None). Raises UserError."""
    name = args.data
    if name in FAMILIES:
        counts = {split: max(1, args.problems * part // sum(SPLITS.values())) for split, part in SPLITS.items()}
        found = [each for split in SPLITS for each in draw(name, split, counts[split], args.seed, args.difficulty)]
        return name, [(f"problem {i}", each) for i, each in enumerate(found, 1)], FAMILIES[name]
    path = Path(name)
    if name.partition("/")[0] == "gsm8k":
        path = file_of(name)
    elif not path.is_file():
        raise UserError(f"no problems '{name}': choose from {', '.join(FAMILIES)}, gsm8k, or give a JSONL file")
    return args.family or name, records(path), args.family and find(args.family)


def write(path, problems, source):
    with replacing(path) as beside, open(beside, "w", encoding="utf-8") as file:
        for each in problems:
            record = {"question": each.question, "steps": each.steps, "answer": each.answer, "source": source}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def load_annotated(path, split=None):
    """The Problems of a split, or all, of a file that this script wrote. Raises UserError that names the line."""
    found = []
    for where, record in records(path):
        try:
            problem = problem_of(record)
        except Rejected as error:
            raise UserError(f"{path}, {where}: {error}: let 07_cot/annotate.py sort out such lines") from error
        if split in (None, split_of(FAMILIES.get(record.get("source"), Family()), problem.question)):
            found.append(problem)
    if not found:
        raise UserError(f"{path} has no problems{f' for {split}' if split else ''}: give a file with more of them")
    return found


def report(name, listed, kept, rejected, family):
    """The lines that say what became of the records."""
    splits = Counter(split_of(family or Family(), problem.question) for problem in kept)
    yield (f"{name}: {len(kept):,} of {len(listed):,} problems kept: "
           + ", ".join(f"{splits[split]:,} {split}" for split in SPLITS))
    first = {error.reason: (where, error.wrong) for where, error in reversed(rejected)}
    for reason, count in Counter(error.reason for _, error in rejected).most_common():
        where, wrong = first[reason]
        yield f"    rejected {count:,}: {reason}, such as {where}: {' '.join(str(wrong).split())[:200]}"


def main():
    parser = flags.Parser("Turn a set of problems into questions, steps and answers, and leave out what is wrong.")
    parser.add_argument("-d", "--data", required=True,
                        help=f"a family of problems ({', '.join(FAMILIES)}), gsm8k, gsm8k/test.jsonl, or a JSONL file")
    parser.add_argument("-o", "--output", required=True, metavar="PATH", help="JSONL file to write")
    parser.add_argument("--family", help="judge each step of a JSONL file's chains as one of that family")
    parser.add_argument("--problems", type=int, default=1000, help="of a family: how many problems, in all splits")
    parser.add_argument("--difficulty", type=int, help="of a family: operations, digits, lines or people")
    parser.add_argument("--seed", type=int, default=1337, help="of a family: the same seed gives the same problems")
    args = parser.parse()
    flags.check_ranges(args, problems=1)
    name, listed, family = source_of(args)
    kept, rejected = annotated(listed, family)
    print(*report(name, listed, kept, rejected, family), sep="\n")
    if not kept:
        raise UserError(f"nothing is left of {args.data}: see above why")
    write(args.output, kept, name)
    print(f"written to {shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
