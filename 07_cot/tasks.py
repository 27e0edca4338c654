"""The families by name, and what all their questions can be written with.

    FAMILIES["arithmetic"].solve("3*9+6*8?")    # Problem(question, steps=("3*9=7", "7+6=3", "3*8=4"), answer="4")
    python 07_cot/tasks.py knights              # three problems of each split, and how they are judged
"""

import string
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from countdown_task import Countdown
from family import problems
from flags import UserError
from logic_tasks import Booleans, Knights, Ordering
from number_tasks import Addition, LeftToRight, Multiplication, WordProblems
from program_tasks import Programs

FAMILIES = {"arithmetic": LeftToRight(), "addition": Addition(), "multiplication": Multiplication(),
            "words": WordProblems(), "countdown": Countdown(), "programs": Programs(), "booleans": Booleans(),
            "ordering": Ordering(), "knights": Knights()}
CHARACTERS = "\n" + string.digits + string.ascii_letters + string.punctuation + " "


def find(name):
    """The family of that name. Raises UserError where there is none."""
    if name not in FAMILIES:
        raise UserError(f"no family '{name}': choose from {', '.join(FAMILIES)}")
    return FAMILIES[name]


def family_of(question):
    """The name of the family whose question this is. Raises UserError if it is none's."""
    for name, family in FAMILIES.items():
        try:
            family.solve(question)
        except ValueError:
            continue
        return name
    raise UserError(f"no family knows what to do with '{question}': 07_cot/tasks.py shows how questions look, and each"
                    " ends with ?")


def main():
    parser = flags.Parser("Show problems: the question, the chain, the answer.")
    parser.add_argument("family", nargs="?", help=f"one of {', '.join(FAMILIES)} (default: all)")
    parser.add_argument("--difficulty", type=int, help="operations, digits, lines or people (default: its own)")
    parser.add_argument("--show", type=int, metavar="N", default=3, help="how many of each")
    parser.add_argument("--split", choices=["train", "validation", "test"], default="train", help="from which part")
    parser.add_argument("--seed", type=int, default=1337, help="the same seed gives the same problems")
    args = parser.parse()
    for name in [args.family] if args.family else FAMILIES:
        family = find(name)
        print(f"{name}: {family.__doc__.splitlines()[0]}")
        for problem in draw(name, args.split, args.show, args.seed, args.difficulty):
            print(f"    {problem.question} {problem.chain}".replace("\n", "\\n"))


def draw(name, split, count, seed, difficulty=None):
    """Problems of a family by name, as family.problems has them. Raises UserError for what can't be."""
    family = find(name)
    if difficulty is not None and not family.easiest <= difficulty <= family.hardest:
        raise UserError(f"difficulty {difficulty} of {name} must be from {family.easiest} to {family.hardest}")
    if count < 1:
        raise UserError(f"count {count} must be at least 1")
    return problems(family, split, count, seed, difficulty)


if __name__ == "__main__":
    flags.run(main)
