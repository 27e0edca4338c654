"""A family about code: what does a short program print?"""

import re

from family import Family, result
from number_tasks import OPERATIONS

VARIABLES = "abc"
ASSIGNMENT = r"(?P<to>[a-c])=(?:(?P<number>\d)|\((?P<left>[a-c])(?P<operator>[-+*])(?P<right>[a-c]|\d)\)%10)"
LINE = re.compile(rf"(?:for i in range\((?P<times>\d)\):|if (?P<a>[a-c])(?P<than>[<>])(?P<b>[a-c]):)?{ASSIGNMENT}")


class Programs(Family):
    r"""`a=3\nb=7\nfor i in range(2):a=(a+b)%10\nif a<b:b=(b*a)%10\nprint(b)?`: what a few lines of Python print.

    The chain is each assignment as it happens: `a=3;b=7;a=3+7=0;a=0+7=7;#7`. Python's own % is meant: (3-5)%10 is 8.
    """

    difficulty, hardest = 4, 12

    def ask(self, random, difficulty):
        lines = [f"{name}={random.integers(10)}" for name in VARIABLES]
        for _ in range(difficulty):
            to, left, a, b = random.choice(list(VARIABLES), 4)
            right = random.choice(list(VARIABLES)) if random.random() < 0.7 else random.integers(1, 10)
            line = f"{to}=({left}{random.choice(list(OPERATIONS))}{right})%10"
            kind = random.random()
            if kind < 0.25:
                line = f"for i in range({random.integers(2, 4)}):{line}"
            elif kind < 0.5 and a != b:
                line = f"if {a}{random.choice(['<', '>'])}{b}:{line}"
            lines.append(line)
        return "\n".join([*lines, f"print({random.choice(list(VARIABLES))})?"])

    def think(self, question):
        *lines, last = question.split("\n")
        shown = re.fullmatch(r"print\(([a-c])\)\?", last)
        if not shown:
            raise ValueError(f"'{last}' must be print(a)?, print(b)? or print(c)?")
        values = {}
        for line in lines:
            found = LINE.fullmatch(line)
            if not found:
                raise ValueError(f"'{line}' is no line that can be understood here")
            to, number, left, operator, right = found.group("to", "number", "left", "operator", "right")
            needed = {left, found["a"], found["b"]} | ({right} if right and right in VARIABLES else set())
            if unknown := needed - {None} - values.keys():
                raise ValueError(f"'{line}' uses {min(unknown)}, which has no value yet")
            if found["than"]:
                a, b = values[found["a"]], values[found["b"]]
                if not (a < b if found["than"] == "<" else a > b):
                    continue
            for _ in range(int(found["times"] or 1)):
                if number:
                    claim = yield f"{to}={number}"
                else:
                    x, y = values[left], values[right] if right in values else int(right)
                    claim = yield f"{to}={x}{operator}{y}={OPERATIONS[operator](x, y) % 10}"
                values[to] = result(claim)
        if shown[1] not in values:
            raise ValueError(f"{shown[1]} has no value to print")
        return str(values[shown[1]])

    def operands(self, question):
        return re.findall(r"^[a-c]=(\d)$", question, re.MULTILINE)
