"""Published exams as Questions: GSM8K's word problems, and MMLU's, of which one of four choices is right.

    questions("gsm8k")[0]                               # Question("Janet's ducks lay ...", "18", rationale="Janet ...")
    questions("mmlu:college_mathematics", PRACTICE)     # the five that may be shown
    subset(questions("gsm8k"), 100)                     # always the same hundred

Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems"; Hendrycks et al. 2021, "Measuring Massive Multitask
Language Understanding". What is reported comes from TEST; PRACTICE is GSM8K's train and MMLU's dev split.
"""

import csv
import os
import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import corpora
from extraction import final_answer
from flags import UserError
from reading import fields, lines_of

TEST, PRACTICE = "test", "practice"
SUBJECTS = tuple(source.file.removeprefix("test/").removesuffix("_test.csv")
                 for source in corpora.CORPORA["mmlu"].sources if source.file.startswith("test/"))
EXAMS = ("gsm8k", *(f"mmlu:{subject}" for subject in SUBJECTS))
SEED = 1337  # of which questions are a subset, and which are shown
# why the answers to the dev questions are right: MMLU says only that they are
RATIONALES = {
    "college_mathematics": (
        "S(T(p(x))) is the derivative of x p(x), which is p(x) + x p'(x). T(S(p(x))) is x p'(x). So ST - TS takes p(x)"
        " to p(x): it is the identity.",
        "With s grams of salt, 0.02 * 4 = 0.08 grams flow in and 4 s / 100 = 0.04 s flow out every minute, so s' = 0.08"
        " - 0.04 s. Its solutions are s = 2 + c e^(-0.04 t), and s(0) = 3 gives c = 1. After 100 minutes s = 2 + e^-4.",
        "I is false: A with the rows (0, 1) and (-1, 0) has A^2 = -I. II is true: det(A^2) = det(A)^2, which is not"
        " negative. III is false: A with 1 and -1 on its diagonal has A^2 = I. Only II must be true.",
        "A polynomial that takes each value again and again, as f(1 + x) = f(x) says, is constant. So f(15/2) = f(5) ="
        " 11.",
        "7 * (-2) + 12 * 3 = 22, so all pairs are m = -2 + 12 t, n = 3 - 7 t. Their sum is 1 + 5 t: ..., -4, 1, 6, ...."
        " The greatest negative one is -4."),
    "college_computer_science": (
        "(a* + b)* is any string of a and b, the same as (a + b)*. Then (a + b)*(c + d) is (a + b)*c + (a + b)*d.",
        "AB + ABC + BC = (A + C + AC) B. MUL R0, R2, R3 takes 1 cycle and ADD R0, R2, R4 takes 2, as the next operation"
        " needs R4; ADD R3, R4, R5 takes 2, as the next one needs R5; MUL R5, R1, R6 takes 1. These are 6 cycles.",
        "The single instance comes from a static factory method, a private constructor keeps others from making a"
        " second one, and nothing prevents that the class inherits from another. All three are true.",
        "load D, add E, multiply F, store T; then load A, add B, multiply C, subtract T, store G. These are 4 + 5 = 9"
        " instructions, and no other order saves one.",
        "An instruction takes 500 ns and 2 * 0.01 misses of 2,000 ns, which is 500 + 40 = 540 ns. Its misses hold the"
        " bus for 2 * 0.01 * 1,000 = 20 ns. The share is 20 / 540 = 1/27."),
}


@dataclass(frozen=True)
class Question:
    """What is asked; the right answer, a number in lowest terms or a letter; the choices, and why, where given."""

    text: str
    answer: str
    choices: tuple[str, ...] = ()
    rationale: str | None = None


def questions(exam, split=TEST):
    """The Questions of a split, in their order. Raises UserError for an exam that is not there."""
    if exam not in EXAMS:
        raise UserError(f"no exam '{exam}': choose from {', '.join(EXAMS)}")
    name, _, subject = exam.partition(":")
    if name == "gsm8k":
        path = file_of(f"gsm8k/{'test' if split == TEST else 'train'}.jsonl")
        return [gsm8k_question(*record) for record in fields(path, "question", "answer")]
    part = "test" if split == TEST else "dev"
    path = file_of(f"mmlu/{part}/{subject}_{part}.csv")
    rationales = RATIONALES.get(subject, ()) if split == PRACTICE else ()
    return [mmlu_question(path, row, rationales[i] if rationales else None)
            for i, row in enumerate(filter(None, csv.reader(lines_of(path))))]


def file_of(name):
    """The path of a file of a corpus; SHARED_DATA, if set, holds the corpora in folders of their names."""
    return corpora.find(name, os.environ.get("SHARED_DATA"))[0][0]


def gsm8k_question(text, answer):
    """The rationale is kept without the notes of GSM8K's calculator, <<16-3=13>>, which nobody else writes."""
    rationale = re.sub(r"<<.*?>>", "", answer.partition("####")[0]).strip()
    return Question(text.strip(), final_answer(answer) or "", rationale=rationale)


def mmlu_question(path, row, rationale):
    if len(row) != 6 or row[5] not in "ABCD":
        raise UserError(f"{path} is damaged: delete it and try again")
    return Question(row[0].strip(), row[5], tuple(choice.strip() for choice in row[1:5]), rationale)


def subset(found, limit=None):
    """The first `limit` of the questions in an order that is always the same: a larger subset holds a smaller one.

    [(number of the question in its split, Question)]. Raises UserError for none or more than there are.
    """
    limit = len(found) if limit is None else limit
    if not 1 <= limit <= len(found):
        raise UserError(f"limit {limit} must be from 1 to {len(found):,}, the number of questions")
    return random.Random(SEED).sample(list(enumerate(found)), len(found))[:limit]
