"""Families of logic: true and false; who comes before whom; knights and knaves."""

import re

from family import Family

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

BOOLEAN = {"&": lambda a, b: a and b, "|": lambda a, b: a or b, "^": lambda a, b: a != b}


class Booleans(Family):
    """`!(T&F)^(F|T)?`: T and F with ! (not), & (and), | (or), ^ (either, not both), the innermost first."""

    difficulty, easiest, hardest = 8, 2, 20

    def ask(self, random, difficulty):
        def term(leaves):
            if leaves == 1:
                text = str(random.choice(["T", "F"]))
            else:
                left = int(random.integers(1, leaves))
                text = f"({term(left)}{random.choice(list(BOOLEAN))}{term(leaves - left)})"
            return f"!{text}" if random.random() < 0.2 else text

        return f"{term(difficulty)}?"

    def think(self, question):
        tokens = list(question)[::-1]

        def value():
            token = tokens.pop()
            if token == "!":
                inner = yield from value()
                return truth((yield f"!{inner}={'FT'[inner == 'F']}"))
            if token == "(":
                left = yield from value()
                operator = tokens.pop()
                right = yield from value()
                if operator not in BOOLEAN or tokens.pop() != ")":
                    raise ValueError(f"'{question}' must have (, two terms with &, | or ^ between them, and )")
                return truth((yield f"{left}{operator}{right}={'FT'[BOOLEAN[operator](left == 'T', right == 'T')]}"))
            return truth(token)

        try:
            answer = yield from value()
        except (IndexError, RecursionError) as error:
            raise ValueError(f"'{question}' ends too early, or never") from error
        if tokens != ["?"]:
            raise ValueError(f"'{question}' goes on behind its end: put ( ) around all of it")
        return answer

    def operands(self, question):
        return re.findall("[TF]", question)


def truth(step):
    """The T or F at the end of a step. Raises ValueError."""
    if step[-1:] not in ("T", "F"):
        raise ValueError(f"'{step}' is neither T nor F")
    return step[-1]


class Ordering(Family):
    """`B<C D<B C<A 2?`: who is the second, the least being the first? The chain is the row until there: 1D;2B."""

    difficulty, easiest, hardest = 7, 2, 20
    order_matters = False

    def ask(self, random, difficulty):
        people = random.choice(list(LETTERS), difficulty, replace=False)
        said = [f"{a}<{b}" for a, b in zip(people, people[1:])]
        return f"{' '.join(random.permutation(said))} {random.integers(1, difficulty + 1)}?"

    def think(self, question):
        if not re.fullmatch(r"(\w<\w )+\d+\?", question, re.ASCII):
            raise ValueError(f"'{question}' must be pairs such as A<B, and a number")
        *said, place = question[:-1].split()
        following = {pair[0]: pair[2] for pair in said}
        people = following.keys() | set(following.values())
        first = people - set(following.values())
        if len(first) != 1 or len(following) != len(said) or not 1 <= int(place) <= len(people):
            raise ValueError(f"'{question}' must put all in one row, and ask for a place of it")
        order, wanted = [], first.pop()
        while wanted and len(order) < int(place):
            claim = yield f"{len(order) + 1}{wanted}"
            order.append(claim[-1:])
            wanted = following.get(order[-1])
        if len(order) < int(place):
            raise ValueError(f"the row has no place {place}")
        return order[-1]

    def operands(self, question):
        return [step[-1] for step in self.solve(question).steps]  # nobody behind the place that is asked for


KINDS = ("lies", "true")
# what one who says so must be, and what the other is: None is not known. "one lies" is at least one
OWN = {"both lie": (0, 1), "one lies": (1, 0), "alike": (None, 1), "differ": (None, 0)}


class Knights(Family):
    """Knights, who are true, and knaves, who always lie: `B: A lies. A: A,B differ. Who?` -> those who are true, A.

    One speaks of himself and another, the others in a circle of the next. Smullyan 1978, "What Is the Name of This
    Book?"
    """

    difficulty, easiest, hardest = 6, 2, 12
    order_matters = False

    def ask(self, random, difficulty):
        people = random.choice(list(LETTERS), difficulty, replace=False)
        true = random.integers(2, size=difficulty)
        possible = [what for what, (own, other) in OWN.items() if own in (None, true[0]) and other == true[1]]
        said = [f"{people[0]}: {people[0]},{people[1]} {random.choice(possible)}."]
        for i in range(1, difficulty):
            about = (i + 1) % difficulty
            said.append(f"{people[i]}: {people[about]} {KINDS[int(true[i] == true[about])]}.")
        return f"{' '.join(random.permutation(said))} Who?"

    def think(self, question):
        story, _, rest = question.rpartition(" Who?")
        found = re.findall(rf"(\w): (?:(\w)|\w,(\w)) ({'|'.join((*KINDS, *OWN))})\.", story, re.ASCII)
        if rest or not found or len(found) != story.count("."):
            raise ValueError(f"'{question}' must be of sentences such as 'A: B lies.', and end with 'Who?'")
        said = [(who, about or both, what) for who, about, both, what in found]
        true, start = {}, next((each for each in said if each[2] in OWN), None)
        if start is None:
            raise ValueError(f"'{question}' needs one who speaks of himself and another: else all could be reversed")
        for who, kind in zip(start[:2], OWN[start[2]]):
            if kind is not None:
                true[who] = self.is_true((yield f"{who} {KINDS[kind]}"))
        ties = [(who, about, what, f"{who}: {about} {what}") for who, about, what in said if what not in OWN]
        ties += [(about, who, *rest) for who, about, *rest in ties]  # what the known say, then what of them
        while True:
            tie = next((tie for tie in ties if tie[0] in true and tie[1] not in true), None)
            if tie is None:
                break
            known, new, what, quoted = tie
            # one says of the other that he is true: then both are alike
            true[new] = self.is_true((yield f"{quoted},{new} {KINDS[true[known] == (what == 'true')]}"))
        return "".join(sorted(who for who, kind in true.items() if kind)) or "none"

    @staticmethod
    def is_true(claim):
        """Whether a step ends with someone who is true. Raises ValueError."""
        if not claim.endswith(KINDS):
            raise ValueError(f"'{claim}' says of no one what he is")
        return claim.endswith("true")

    def operands(self, question):
        return sorted(set(re.findall(r"\b[A-Z]\b", question)))
