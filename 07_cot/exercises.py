"""The exercises of README.md: functions to write, and a check of each.

    python 07_cot/exercises.py answers_07.py      # writes the file, to be filled; checks it once it is there
"""

import random
import sys
from itertools import combinations
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from answers import grade
from tasks import FAMILIES


def check_first_wrong_step(first_wrong_step):
    family = FAMILIES["arithmetic"]
    for question, chain in (("3*9+6*8?", "3*9=7;7+6=3;3*8=4;"), ("3*9+6*8?", "3*9=7;7+6=4;4*8=2;"),
                            ("3-5*2?", "3-5=2;2*2=4;"), ("3-5*2?", "3-5=8;9*2=8;"), ("1+1-1?", "1+1=2;2-2=0;")):
        steps = chain.split(";")[:-1]
        rights, _ = family.judge(question, steps)
        wanted = None if all(rights) else rights.index(False)
        if (found := first_wrong_step(question, steps)) != wanted:
            hint = ": 3 - 5 is -2, and the last digit of a number below 0 is Python's % 10, 8" if "3-5" in chain else ""
            return f"first_wrong_step({question!r}, {steps}) is {wanted}, not {found}{hint}"


def check_majority(majority):
    for answers in (["7", "4", "7"], ["7", None, None, "4", "4"], ["1"], ["2", "1", "1", "2"]):
        found, voters = majority(answers), [answer for answer in answers if answer is not None]
        most = max(map(voters.count, voters))
        if found is None or voters.count(found) != most:
            hint = ": None is a chain without an answer, and has no vote" if None in answers else ""
            return f"majority({answers}) is not {found!r}{hint}"
    if majority([None, None]) is not None:
        return "majority([None, None]) is None"


def check_pass_at_k(pass_at_k):
    for n, c, k in ((10, 3, 5), (5, 2, 2), (6, 0, 3), (6, 6, 1), (6, 4, 3)):
        right = [True] * c + [False] * (n - c)
        wanted = mean(any(chosen) for chosen in combinations(right, k))
        found = pass_at_k(n, c, k)
        if not abs(found - wanted) < 1e-9:
            biased = 1 - (1 - c / n) ** k
            hint = ": that puts each sample back, and none is drawn twice" if abs(found - biased) < 1e-9 else ""
            return f"pass_at_k({n}, {c}, {k}) is {wanted:.6f}, not {found:.6f}{hint}"


def check_advantages(advantages):
    for rewards in ([1.0, 1, 0, 0, 0, 0, 0, 0], [1.0, 0], [random.random() for _ in range(5)]):
        middle = mean(rewards)
        deviation = mean((r - middle) ** 2 for r in rewards) ** 0.5
        wanted = [(r - middle) / (deviation + 1e-4) for r in rewards]
        found = list(advantages(rewards))
        if max(abs(a - b) for a, b in zip(found, wanted)) > 1e-4:
            hint = ": divide by the deviation of all, not by that of a sample (n, not n - 1)" if len(found) == 8 else ""
            return f"advantages({rewards}) is {[round(each, 4) for each in wanted]}{hint}"
    if any(advantages([1.0, 1.0, 1.0])):
        return "advantages([1, 1, 1]) is all 0: where all are right there is nothing to learn"


if __name__ == "__main__":
    random.seed(0)
    flags.run(lambda: grade("07_cot", globals()))
