"""How the chapters' exercises.py scripts pose their exercises, and check a reader's own functions."""

import re
import runpy
import sys
import textwrap
import traceback
from pathlib import Path

from atomic import replacing
from flags import Parser, UserError, shown

ROOT = Path(__file__).resolve().parents[1]
EXERCISE = re.compile(r"^\d+\. `(\w+)(\(.*?\))`: (.+?)(?=^\d+\. `|\n\n)", re.MULTILINE | re.DOTALL)


def stub(chapter):
    """A Python file with the functions that a chapter's pages ask for, each still to be written."""
    pages = [path.read_text(encoding="utf-8") for path in sorted((ROOT / chapter).glob("*.md"), reverse=True)]
    lines = [f'"""My answers. To check them: python {chapter}/exercises.py <this file>"""']
    for name, arguments, text in EXERCISE.findall("\n".join(pages)):
        said = textwrap.fill(f'r"""{" ".join(text.split())}"""', 110, initial_indent=" " * 4, subsequent_indent=" " * 4)
        lines += ["", "", f"def {name}{arguments}:", said, "    raise NotImplementedError"]
    return "\n".join([*lines, ""])


def where(error, path):
    """", in line 7" if an error came from the file `path`, else nothing."""
    own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", in line {own[-1]}" if own else ""


def verdict(check, answer, path):
    """What is wrong with an answer of the file `path`, or None."""
    if answer is None:
        return "not there yet"
    try:
        return check(answer)
    except NotImplementedError:
        return "not there yet"
    except KeyboardInterrupt as error:
        return f"stopped{where(error, path)}: does its loop end?"
    except Exception as error:
        return f"it raised {error!r}{where(error, path)}"


def grade(chapter, names):
    """Run the file that the command line names, and tell of each function in it whether it is right.

    `names` are an exercises.py's globals(): its check_f takes a reader's f, and returns what is wrong with it, or None.
    A file that does not exist is written, with functions to fill. The exit status is 0 if all are right.
    """
    checks = {name.removeprefix("check_"): check for name, check in names.items() if name.startswith("check_")}
    parser = Parser(f"The exercises of {chapter}: functions to write, and a check of each.")
    parser.add_argument("answers", help="a Python file of yours; one that does not exist is written, with a function to"
                        " fill for each exercise: " + ", ".join(checks))
    path = Path(parser.parse_args().answers)
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{path} can't be a file of answers: name a file in a folder that exists")
    if not path.exists():
        with replacing(path) as beside:
            beside.write_text(stub(chapter), encoding="utf-8")
        print(f"{shown(path)} has {len(checks)} functions to fill: do that, then run this again")
        return
    try:
        answers = runpy.run_path(str(path))
    except SyntaxError as error:
        raise UserError(f"{path} can't be run: {error}") from error
    except Exception as error:
        raise UserError(f"{path} can't be run: {error!r}{where(error, path)}") from error
    wrong = False
    for name, check in checks.items():
        said = verdict(check, answers.get(name), path)
        print(f"{name}: {said or 'right'}", flush=True)  # at once: the next one's loop may never end
        wrong = wrong or bool(said)
    sys.exit(wrong)
