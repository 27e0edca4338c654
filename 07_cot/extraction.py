r"""The final answer of a reply, as text: what a person who reads to its end would say that it claims.

    final_answer("16-3-4=9, and 9*2 = $18. The answer is $18.00.")       # "18"
    final_answer(r"<think>5?</think> So \boxed{\frac{1}{2}}")            # "1/2"
    final_answer("B and C are false. The answer is (D).", letters=True)  # "D"
    final_answer("<think>First I multiply")                              # None: it was still thinking

Numbers are in lowest terms, so that equal ones are equal texts: 2.50, 5/2 and \frac{10}{4} are "5/2". A reply that
claims two letters, or none, has no answer: it is never guessed for it.
"""

import re
from fractions import Fraction

LONGEST = 100  # characters of a number: what a model that repeats itself writes on and on is none
# minus signs and dollars; 1,000 or 1000; a decimal part; the rest of a fraction, or of a mixed number such as 2 1/2
NUMBER = re.compile(r"""
    (?<![\w.])(?<!\d,)(?P<sign>(?<![\w)\]}])(?<!\d\ )[-−])?\$?(?P<inner>(?<=\$)[-−])?
    (?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d*)(?P<decimals>\.\d+|(?<=\d))
    (?:(?P<upper>\ \d+)?\s?/\s?(?P<lower>0*[1-9]\d*)(?![\d/]))?""", re.VERBOSE | re.ASCII)
FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf)\s*\{([^{}]*)\}")
BRACES = re.compile(r"\\f?boxed\s*\{|\\[{}]|[{}]")
CLAIM = re.compile(r"\banswer\b[^.!?\n]{0,40}?(?:\bis\b|:|=)", re.IGNORECASE)
SENTENCE_END = re.compile(r"[.!?](?:\s|$)|\n")
# a letter that stands for a choice: not that of C++, B-tree or D's, nor the article of "A group"
LETTER = r"([A-D])(?![\w'’+#-])(?!(?<=A) (?!because|since|as\b|is\b|and\b|or\b)[a-z])"
LETTER_CLAIM = re.compile(r"(?i:\b(?:answer|option|choice)\b[^.!?\n]{0,40}?(?:\bis\b|:|=)[\s:]*"
                          rf"(?:(?:option|choice|letter)\s+)?)\(?{LETTER}")
ANOTHER = re.compile(r"\)?\s*(?:,|/|&|or\b|and\b|through\b)\s*\(?[A-D]\b(?!['’+#-])")
LISTED = re.compile(rf"^\s*\(?{LETTER}(?:[).:]|\s*$)", re.MULTILINE)
NAMED = re.compile(rf"\({LETTER}\)|(?i:\b(?:option|choice)) {LETTER}")


def final_answer(text, letters=False):
    """The number, or with `letters` the letter from A to D, that a reply claims; None if it claims none."""
    said = without_thoughts(text)
    if said is None:
        return None
    return letter_answer(said) if letters else number_answer(said)


def without_thoughts(text):
    """What is said behind the thoughts, None if these have not ended; where a template has opened them, too."""
    said = text.rpartition("</think>")[2]
    return None if "<think>" in said else said.strip()


def boxed(text):
    r"""What stands in the \boxed{...} that is closed last, braces in it included; None if there is none."""
    opened, found = [], None  # where each brace that is still open begins a box, None where it begins something else
    for brace in BRACES.finditer(text):
        if brace[0].endswith("{") and not brace[0].startswith(r"\{"):
            opened.append(brace.end() if "boxed" in brace[0] else None)
        elif brace[0] == "}" and opened and (begin := opened.pop()) is not None:
            found = text[begin : brace.start()]
    return found


# ---- numbers ----


def numbers(text):
    """All numbers of a text as Fractions, in order: "16-3 = 13.50" -> 16, 3, 27/2. Units and % are left out."""
    text = FRACTION.sub(r" \1/\2 ", TEXT.sub(r"\1", text).replace("{,}", ",").replace(r"\!", ""))
    return [value for found in NUMBER.finditer(text) if (value := value_of(found)) is not None]


def value_of(found):
    if len(found[0]) > LONGEST:
        return None
    value = Fraction(found["whole"].replace(",", "") + found["decimals"])
    if found["upper"]:
        value += Fraction(int(found["upper"]), int(found["lower"]))
    elif found["lower"]:
        value /= int(found["lower"])
    return -value if found["sign"] or found["inner"] else value


def number_answer(text):
    r"""Behind ####, else in \boxed{}, else behind "the answer is", else the last number at all.

    #### is how GSM8K writes answers (Cobbe et al. 2021), "The answer is" how Wei et al. 2022 do, \boxed{} is MATH's
    (Hendrycks et al. 2021), and the last number is what Kojima et al. 2022 take.
    """
    _, mark, behind = text.rpartition("####")
    box = boxed(text)
    if mark or box is not None:
        claim = claimed(behind.strip().partition("\n")[0] if mark else box)
        return None if claim is None else str(claim)
    *_, last = [None, *CLAIM.finditer(text)]
    claim = None
    if last:
        behind = text[last.end() :].lstrip(" \t\n:*$")
        claim = claimed(SENTENCE_END.split(behind, maxsplit=1)[0])
    found = numbers(text)
    if claim is None and found:
        claim = found[-1]
    return None if claim is None else str(claim)


def claimed(text):
    """The number that a short text claims: the first one, or the first behind the last =."""
    found = numbers(text.rpartition("=")[2]) or numbers(text)
    return found[0] if found else None


# ---- letters ----


def letter_answer(text):
    r"""In \boxed{}, else behind "the answer is", else as the whole reply or its last line, else the only one named."""
    box = boxed(text)
    if box is not None:
        found = re.match(rf"\W*{LETTER}\W*$", TEXT.sub(r"\1", box)) or re.match(rf"\W*{LETTER}[).:]", box)
        return found and found[1]
    text = re.sub(r"[*_$\\]", "", TEXT.sub(r"\1", text))
    claims = list(LETTER_CLAIM.finditer(text))
    if claims:
        return None if ANOTHER.match(text, claims[-1].end()) else claims[-1][1]
    last = re.fullmatch(rf"\s*\(?{LETTER}\)?\.?\s*", text.rstrip().rpartition("\n")[2])
    listed = {found[1] for found in LISTED.finditer(text)}
    if last and listed <= {last[1]}:
        return last[1]
    named = {found[1] or found[2] for found in NAMED.finditer(text)}
    begins = LISTED.match(text)
    every = listed | named if begins else named
    return every.pop() if len(every) == 1 and listed <= every else None
