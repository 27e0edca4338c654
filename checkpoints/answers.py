"""How the chapters' exercises.py scripts check a reader's own functions."""

import runpy
import sys
from pathlib import Path

from flags import Parser, UserError


def verdict(check, answer):
    """What is wrong with an answer, or None."""
    if answer is None:
        return "not there yet"
    try:
        return check(answer)
    except Exception as error:
        return f"it raised {error!r}"


def grade(chapter, checks):
    """Run the file that the command line names, and tell of each function in it whether it is right.

    `checks` has for each name of a function one that takes it and returns what is wrong with it, or None.
    The exit status is 0 if all are right.
    """
    parser = Parser(f"Check your answers to the exercises of {chapter}/README.md.")
    parser.add_argument("answers", help="a Python file with functions of your own: " + ", ".join(checks))
    path = Path(parser.parse_args().answers)
    if not path.is_file():
        raise UserError(f"no file {path}: write your functions into one")
    try:
        answers = runpy.run_path(str(path))
    except Exception as error:
        raise UserError(f"{path} can't be run: {error!r}") from error
    verdicts = {name: verdict(check, answers.get(name)) for name, check in checks.items()}
    for name, said in verdicts.items():
        print(f"{name}: {said or 'right'}")
    sys.exit(any(verdicts.values()))
