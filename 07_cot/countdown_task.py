"""A family that needs a plan: Countdown."""

import re
from functools import lru_cache

from family import Family
from number_tasks import OPERATIONS


@lru_cache(maxsize=2**18)
def plan(numbers, target):
    """The first steps of numbers (sorted) to the target, [(a, operator, b), ...]; None if there are none.

    Every number is used; none becomes negative.
    """
    if len(numbers) == 1:
        return () if numbers[0] == target else None
    for step in pairs(numbers):
        further = plan(after(numbers, step), target)
        if further is not None:
            return (step, *further)
    return None


def pairs(numbers):
    """What can be done with two of the numbers: (a, operator, b), the larger first."""
    for i, b in enumerate(numbers):
        for a in numbers[i + 1 :]:
            for operator in OPERATIONS:
                yield a, operator, b


def after(numbers, step):
    """The numbers (sorted) that are left when two have become one."""
    a, operator, b = step
    left = list(numbers)
    left.remove(a)
    left.remove(b)
    return tuple(sorted([*left, OPERATIONS[operator](a, b)]))


def parted(step):
    """"3+5=8" -> (3, "+", 5, 8). Raises ValueError if it is no step."""
    found = re.fullmatch(r"(\d+)([-+*])(\d+)=(\d+)", step, re.ASCII)
    if not found:
        raise ValueError(f"'{step}' is no step")
    return int(found[1]), found[2], int(found[3]), int(found[4])


class Countdown(Family):
    """`3 5 7 9=24?`: use each number once, with +, - and *, to reach the last. The answer is the whole term.

    Several answers may be right, and a step is right as long as the target can still be reached.
    """

    difficulty, easiest, hardest = 4, 2, 6
    order_matters = False

    def ask(self, random, difficulty):
        while True:
            numbers = random.integers(1, 10, difficulty).tolist()
            left = tuple(sorted(numbers))
            for _ in range(difficulty - 1):  # each step leaves one number less
                options = list(pairs(left))
                left = after(left, options[random.integers(len(options))])
            if 10 <= left[0] <= 99:
                return f"{' '.join(map(str, numbers))}={left[0]}?"

    def read(self, question):
        found = re.fullmatch(r"(\d+(?: \d+)*)=(\d+)\?", question, re.ASCII)
        if not found or len(found[1].split()) > self.hardest:
            raise ValueError(f"'{question}' must be at most {self.hardest} numbers, = and a number")
        return tuple(sorted(map(int, found[1].split()))), int(found[2])

    def think(self, question):
        numbers, target = self.read(question)
        terms = [(number, str(number)) for number in numbers]
        while len(terms) > 1:
            steps = plan(tuple(sorted(number for number, _ in terms)), target)
            if not steps:
                raise ValueError(f"no way to {target}")
            a, operator, b = steps[0]
            claim = yield f"{a}{operator}{b}={OPERATIONS[operator](a, b)}"
            terms = self.combined(terms, claim)
        return terms[0][1].removeprefix("(").removesuffix(")") if terms[0][1].startswith("(") else terms[0][1]

    @staticmethod
    def combined(terms, claim):
        """[(number, its term)] after a step. Raises ValueError if that step can't be taken."""
        a, operator, b, c = parted(claim)
        left, used = list(terms), []
        for number in (a, b):
            term = next((each for each in left if each[0] == number), None)
            if term is None:
                raise ValueError(f"{number} is not there")
            left.remove(term)
            used.append(term[1])
        return [*left, (c, f"({used[0]}{operator}{used[1]})")]

    def follow(self, question, steps):
        numbers, target = self.read(question)
        terms, right = [(number, str(number)) for number in numbers], []
        for step in steps:
            try:
                terms = self.combined(terms, step)
                a, operator, b, c = parted(step)
                left = tuple(sorted(number for number, _ in terms))
                good = OPERATIONS[operator](a, b) == c and plan(left, target) is not None
            except ValueError:
                return right + [False] * (len(steps) - len(right)), None
            right.append(good)
        return right, terms[0][1][1:-1] if len(terms) == 1 and steps else None

    def right(self, question, answer):
        numbers, target = self.read(question)
        try:
            value, used = term_value(answer)
        except (ValueError, RecursionError):
            return False
        return value == target and tuple(sorted(used)) == numbers

    def operands(self, question):
        return question.partition("=")[0].split()

    def normal(self, question):
        return super().normal(question.replace("=", " ="))  # the last number is one like the others, the target is not


def term_value(text):
    """"(9-5)*6" -> (24, [9, 5, 6]): products before sums, from left to right. Raises ValueError."""
    tokens, used = re.findall(r"\d+|[-+*()]|.", text, re.ASCII)[::-1], []

    def sum_of():
        value = product_of()
        while tokens and tokens[-1] in "+-":
            value = OPERATIONS[tokens.pop()](value, product_of())
        return value

    def product_of():
        value = single()
        while tokens and tokens[-1] == "*":
            tokens.pop()
            value *= single()
        return value

    def single():
        token = tokens.pop() if tokens else ""
        if token == "(":
            value = sum_of()
            if not tokens or tokens.pop() != ")":
                raise ValueError(f"'{text}' lacks a )")
            return value
        if not (token.isascii() and token.isdigit()):
            raise ValueError(f"'{text}' is no term")
        used.append(int(token))
        return used[-1]

    value = sum_of()
    if tokens:
        raise ValueError(f"'{text}' goes on behind its end")
    return value, used
