"""Families about numbers: arithmetic from left to right, sums and products on paper, word problems."""

import re

from family import Family, result

OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


class LeftToRight(Family):
    """`3*9+6*8?`: single digits, strictly from left to right, of each result the last digit: 7, 3, 4."""

    difficulty = 8

    def ask(self, random, difficulty):
        digits = random.integers(10, size=difficulty + 1)
        operators = random.choice(list(OPERATIONS), difficulty)
        return "".join(f"{digit}{operator}" for digit, operator in zip(digits, [*operators, "?"]))

    def think(self, question):
        if not re.fullmatch(r"\d([-+*]\d)*\?", question, re.ASCII):
            raise ValueError(f"'{question}' must be of single digits with +, - or * between them")
        value = int(question[0])
        for operator, digit in zip(question[1:-1:2], question[2::2]):
            claim = yield f"{value}{operator}{digit}={OPERATIONS[operator](value, int(digit)) % 10}"
            value = result(claim)
        return str(value)

    def operands(self, question):
        return list(question[:-1:2])


def add(a, b):
    """The thoughts of adding two numbers, texts of digits, on paper: from the right, the carry as the third number."""
    carry, digits = 0, ""
    for i in range(1, max(len(a), len(b)) + 1):
        x, y = (number[-i] if i <= len(number) else "0" for number in (a, b))
        claim = yield f"{x}+{y}+{carry}={int(x) + int(y) + carry:02}"
        carry, digit = divmod(result(claim), 10)
        digits = f"{digit}{digits}"
    return str(int(f"{carry}{digits}"))


def multiply(a, digit):
    """The thoughts of a number times one digit."""
    carry, digits = 0, ""
    for x in reversed(a):
        claim = yield f"{x}*{digit}+{carry}={int(x) * int(digit) + carry:02}"
        carry, unit = divmod(result(claim), 10)
        digits = f"{unit}{digits}"
    return str(int(f"{carry}{digits}"))


def two_numbers(question, operator):
    """"12+34?" -> ("12", "34"). Raises ValueError."""
    found = re.fullmatch(rf"(\d+)\{operator}(\d+)\?", question, re.ASCII)
    if not found:
        raise ValueError(f"'{question}' must be two whole numbers with {operator} between them")
    return found.groups()


class Addition(Family):
    """`4827+395?`: digit by digit, `7+5+0=12;2+9+1=12;8+3+1=12;4+0+1=05`. The difficulty is the number of digits."""

    difficulty, hardest = 8, 18

    def ask(self, random, difficulty):
        return "{}+{}?".format(*random.integers(10 ** (difficulty - 1), 10**difficulty, 2))

    def think(self, question):
        return (yield from add(*two_numbers(question, "+")))

    def operands(self, question):
        return [digit for number in two_numbers(question, "+") for digit in number]


class Multiplication(Family):
    """`482*37?`: times 7, times 3, each digit by digit, then the rows are added.

    The difficulty is the digits of the first number; the second has a third as many.
    """

    difficulty, easiest, hardest = 4, 2, 12

    def ask(self, random, difficulty):
        most = 10 ** -(-difficulty // 3)
        return f"{random.integers(10 ** (difficulty - 1), 10**difficulty)}*{random.integers(most // 10 + 1, most)}?"

    def think(self, question):
        a, b = two_numbers(question, "*")
        total = None
        for place, digit in enumerate(reversed(b)):
            row = yield from multiply(a, digit)
            row = str(int(row + "0" * place))
            if len(b) > 1:
                claim = yield f"{a}*{digit}{'0' * place}={row}"
                row = str(result(claim))
            if total is None:
                total = row
            else:
                together = yield from add(total, row)
                claim = yield f"{total}+{row}={together}"
                total = str(result(claim))
        return total

    def operands(self, question):
        return [digit for number in two_numbers(question, "*") for digit in number]


NAMES = ("Ann", "Bob", "Cem", "Dan")
THINGS = ("pens", "nuts", "figs", "eggs", "keys", "caps")
# what a sentence says, and how its number comes about: of `who`, `other` and N
SENTENCES = {
    "{who} buys {N} more.": ("{who}", "+"),
    "{who} loses {N}.": ("{who}", "-"),
    "{other} has {N} more than {who}.": ("{other}", "+"),
    "{other} has {N} fewer than {who}.": ("{other}", "-"),
    "{other} has {N} times as many as {who}.": ("{other}", "*"),
}
PATTERNS = [(re.compile(re.escape(form).replace(r"\{who\}", r"(?P<who>\w+)").replace(r"\{other\}", r"(?P<other>\w+)")
                        .replace(r"\{N\}", r"(?P<N>\d+)")), *meaning) for form, meaning in SENTENCES.items()]


class WordProblems(Family):
    """`Ann has 12 pens. Ann loses 5. Bob has 3 times as many as Ann. How many has Bob?`, never above 99."""

    difficulty, hardest = 4, 12

    def ask(self, random, difficulty):
        while True:
            has = {str(random.choice(NAMES)): int(random.integers(2, 60))}
            (first, number), = has.items()
            told = [f"{first} has {number} {random.choice(THINGS)}."]
            for _ in range(difficulty):
                who = str(random.choice(list(has)))
                other = str(random.choice([name for name in NAMES if name != who]))
                form, (changed, operator) = list(SENTENCES.items())[random.integers(len(SENTENCES))]
                N = int(random.integers(2, 5 if operator == "*" else 30))
                has[changed.format(who=who, other=other)] = OPERATIONS[operator](has[who], N)
                told.append(form.format(who=who, other=other, N=N))
                if not 0 <= min(has.values()) <= max(has.values()) <= 99:
                    break
            else:
                return f"{' '.join(told)} How many has {random.choice(list(has))}?"

    def think(self, question):
        told, who_is_asked = self.sentences(question)
        has = {}
        for sentence in told:
            if start := re.fullmatch(r"(\w+) has (\d+) \w+\.", sentence):
                has[start[1]] = int(start[2])
                continue
            found, changed, operator = next(
                ((match, *meaning) for form, *meaning in PATTERNS if (match := form.fullmatch(sentence))),
                (None, "", ""))
            if not found or found["who"] not in has:
                raise ValueError(f"'{sentence}' is no sentence that can be understood here")
            words = found.groupdict()
            changed, N = changed.format(**words), int(words["N"])
            number = has[words["who"]]
            claim = yield f"{changed} {number}{operator}{N}={OPERATIONS[operator](number, N)}"
            has[changed] = result(claim)
        if who_is_asked not in has:
            raise ValueError(f"'{question}' does not say how many {who_is_asked} has")
        return str(has[who_is_asked])

    @staticmethod
    def sentences(question):
        """A question -> (its sentences before the last, the name in the last). Raises ValueError."""
        story, _, asked = question.rpartition(" How many has ")
        if not story or not re.fullmatch(r"\w+\?", asked):
            raise ValueError(f"'{question}' must end with 'How many has ...?'")
        return re.findall(r"[^.]+\.", story.replace(". ", ".")), asked[:-1]

    def operands(self, question):
        return re.findall(r"\d+", question)
