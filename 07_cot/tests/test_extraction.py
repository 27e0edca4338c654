"""The final answer of a reply: hard cases, each with the reason why it is one, and all of GSM8K's own answers."""

import json
import random
from fractions import Fraction

import pytest
from extraction import boxed, final_answer, numbers
from for_tests import shared

NUMBERS = [
    # reply, answer, why
    ("She makes 9 * 2 = $<<9*2=18>>18 a day.\n#### 18", "18", "GSM8K's own mark"),
    ("#### 5\nWait, that is wrong.\n#### 1,080", "1080", "the last mark counts; commas"),
    ("#### 12 dollars in 3 days", "12", "the first number behind a mark"),
    ("####", None, "a mark and nothing behind it: 7 before it would be a guess"),
    ("So 7 are left.\n#### none", None, "what is claimed is no number"),
    (r"Thus \boxed{42}. (Checked 3 times.)", "42", "a box goes before the last number"),
    (r"\boxed{1} no: \boxed{2}", "2", "the last box"),
    (r"\boxed{\frac{3}{4}}", "3/4", "braces in braces"),
    (r"\boxed{x = \dfrac{10}{4}\text{ m}}", "5/2", "behind =, lowest terms, a unit as text"),
    (r"\boxed{\$1{,}250.50}", "2501/2", "a dollar and a comma of LaTeX"),
    (r"\boxed{7} and then \boxed{8", "7", "a box that was cut off says nothing"),
    (r"\boxed{50\%}", "50", "percent are numbers, as in GSM8K's answers"),
    ("The answer is 2.50.", "5/2", "the point that ends the sentence is none of the number's"),
    ("The answer is 1/2.", "1/2", "a fraction"),
    ("The answer is 2 1/2 cups.", "5/2", "a mixed number"),
    ("The answer is 0.5", "1/2", "equal to 1/2"),
    ("The answer is .5", "1/2", "no digit before the point"),
    ("The answer is 3 + 4 = 7 apples, for 2 days.", "7", "behind the last =, and not the last number"),
    ("The answer is $5 per hour for 3 hours.", "5", "the first number behind the words (Kojima et al. 2022)"),
    ("The final answer to the question is: **18**.", "18", "other words between, bold"),
    ("**Answer:** 18", "18", "a heading"),
    ("So the answer is:\n\n$$18$$\n\nI used 3 steps.", "18", "on a line of its own"),
    ("The answer is not clear. 4 + 5 = 9", "9", "words without a number: the last one at all"),
    ("Is the answer 5? The answer is -3.", "-3", "the last claim, a sign"),
    ("It is 16-3-4=9", "9", "a minus between numbers is no sign"),
    ("10 -3", "3", "also with a space before it"),
    ("a loss of -$5", "-5", "a sign before the dollar"),
    ("a loss of $-5", "-5", "and behind it"),
    ("It fell to −7 degrees", "-7", "the minus sign of Unicode"),
    ("Registers R2 and x3 hold 12", "12", "digits of names are no numbers"),
    ("It takes 12 for R2", "12", "not even the last ones"),
    ("12km", "12", "a unit without a space"),
    ("10, 20, 30", "30", "a list is no number with commas"),
    ("1,234,567.80", "6172839/5", "several commas and decimals"),
    ("5/0", "0", "nothing can be divided by 0: two numbers"),
    ("I do not know.", None, "no number at all"),
    ("", None, "nothing"),
    ("<think>5 + 5 = 10</think>\n\nIt is 11.", "11", "thoughts are not the answer"),
    ("<think>5 + 5 = 10, the answer is 10", None, "unfinished thoughts have no answer"),
    ("5 + 5 = 10</think> It is 11.", "11", "the template had opened the thoughts"),
    ("<think>1</think> 2 <think>3</think> 4", "4", "thinking twice"),
    ("<think>1</think> 2 <think>3", None, "and being cut off the second time"),
    ("9" * 5000, None, "no number, but a model that repeats itself"),
]
LETTERS = [
    ("B", "B", "as asked"), ("(B)", "B", "in parentheses"), ("**B**", "B", "bold"), ("B.", "B", "with a point"),
    ("B) 12", "B", "with its text"), ("B. 12\n\nBecause 3 * 4 = 12.", "B", "and reasons behind it"),
    ("The answer is (B).", "B", "the form of Wei et al. 2022"), ("Answer: B", "B", "Hendrycks et al. 2021's"),
    ("**Answer: (B)**", "B", "bold"), ("The correct answer is **option C**: 5", "C", "other words, bold"),
    ("The correct option is D", "D", "option for answer"), (r"$\boxed{\text{(C)}}$", "C", "a box"),
    (r"\boxed{C. 12}", "C", "a box with the text"), (r"\boxed{12}", None, "a box without a letter"),
    ("The answer is A. No: the answer is C.", "C", "the last claim"),
    ("The answer is A because 2 > 1.", "A", "A is a letter here"),
    ("The answer is a group of order 4.", None, "a small letter is none"),
    ("The answer is: A group is a set.", None, "A is an article here"),
    ("The answer is C++.", None, "a language"), ("The answer is B-trees.", None, "a word that begins with a letter"),
    ("The answer is (A) or (B).", None, "two letters are no answer"),
    ("The answer is B and C.", None, "two letters, without parentheses"),
    ("The answer is B through D.", None, "three letters"),
    ("A. 1\nB. 2\nC. 3\nD. 4", None, "the choices are only repeated"),
    ("A. 1\nB. 2\nC. 3\nD. 4\nThe answer is (C).", "C", "repeated, and then answered"),
    ("We compute 3 * 4 = 12.\n\nC", "C", "the last line"),
    ("So 12, which is (C).", "C", "the only one that is named"),
    ("(A) is too small and (B) is too large.", None, "named, but not chosen"),
    ("Dogs Are Clever", None, "first letters of words"), ("E", None, "no choice"), ("12", None, "the text of a choice"),
    ("<think>The answer is A.</think>The answer is B.", "B", "thoughts"),
    ("<think>The answer is A.", None, "unfinished"),
]


@pytest.mark.parametrize(("reply", "answer", "why"), NUMBERS, ids=[why for _, _, why in NUMBERS])
def test_numbers(reply, answer, why):
    assert final_answer(reply) == answer, why


@pytest.mark.parametrize(("reply", "answer", "why"), LETTERS)
def test_letters(reply, answer, why):
    assert final_answer(reply, letters=True) == answer, why


def test_numbers_are_read_as_they_were_written():
    """Fractions written in several ways, one beside another, come back."""
    generator = random.Random(0)
    for _ in range(300):
        value = Fraction(generator.randint(-10**7, 10**7), generator.choice([1, 1, 2, 4, 5, 100, 3, 7]))
        forms = [str(value), rf"\frac{{{value.numerator}}}{{{value.denominator}}}"]
        if 100 % value.denominator == 0:
            forms += [f"{float(value):,.2f}", f"{float(value):.2f}"]
        if value.denominator == 1:
            forms += [f"{int(value):,}", f"${int(value)}"]
        for form in forms:
            assert numbers(f"so {form} apples") == [value], form


def test_every_answer_of_gsm8k_is_found():
    """By its mark; and where the mark is gone, as the last number of the rationale, nearly always."""
    lines = shared("gsm8k/test.jsonl").read_text(encoding="utf-8").splitlines()
    without_mark = 0
    for line in lines:
        answer = json.loads(line)["answer"]
        rationale, _, gold = answer.partition("####")
        wanted = str(Fraction(gold.strip().replace(",", "")))
        assert final_answer(answer) == wanted
        assert final_answer(f"{rationale}\nThe answer is {gold.strip()}.") == wanted
        without_mark += final_answer(rationale) == wanted
    assert without_mark / len(lines) > 0.9


def test_boxes():
    assert boxed(r"\boxed{\sqrt{\frac{1}{2}} + {x}} and more }") == r"\sqrt{\frac{1}{2}} + {x}"
    assert boxed(r"\boxed{never closed") is None and boxed("none") is None


def test_long_replies_take_no_longer_than_their_length():
    """Texts on which a careless pattern goes back and forth without end."""
    for piece in ("answer ", "\\boxed{", "{", "(A", "- ", "$-", " or", "<think>", "1,"):
        for letters in (False, True):
            assert final_answer(piece * 20000, letters) in (None, "1"), piece
