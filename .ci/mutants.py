"""Break one line at a time in a copy of the repository: every fault of faults.py must turn a test red.

    python .ci/mutants.py           # all of them
    python .ci/mutants.py mask      # those whose name contains "mask"
"""

import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import forked
import pytest
from faults import MUTANTS

ROOT = Path(__file__).resolve().parents[1]
PYTEST, SECONDS = str(Path(pytest.__file__).with_name("__main__.py")), 600


def passes(tests, file=None, line="", fault=""):
    """Whether tests pass in a copy of the repository, in which a file has the fault instead of the line."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "course"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "prepared", "*.pt", "__pycache__"))
        if file:
            text = (copy / file).read_text(encoding="utf-8")
            if text.count(line) != 1:
                raise ValueError(f"{file} has {text.count(line)} times the line {line!r}: mend .ci/mutants.py")
            (copy / file).write_text(text.replace(line, fault), encoding="utf-8")
        shared = os.environ.get("SHARED_DATA", str(ROOT.parent / "shared" / "data"))
        said = Path(folder) / "said"
        said.touch()
        status = forked.run([PYTEST, "-x", "-m", "", *tests], copy, os.devnull, said,
                            {"SHARED_DATA": shared, "OMP_NUM_THREADS": "1"}, SECONDS)
        if status not in (0, 1):
            raise ValueError(f"pytest did not run: {said.read_text(encoding='utf-8')[-2000:]}")
    return status == 0


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = {name: mutant for name, mutant in MUTANTS.items() if wanted in name}
    survivors = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faultless = pool.submit(passes, sorted({tests for *_, tests in chosen.values()}))
        lives = pool.map(lambda mutant: passes([mutant[3]], *mutant[:3]), chosen.values())
        for name, lives_on in zip(chosen, lives):
            print(f"{'NOT NOTICED' if lives_on else 'caught'}: {name}", flush=True)
            survivors += [name] * lives_on
    if not faultless.result():
        sys.exit("a test fails without any fault")
    if survivors:
        sys.exit(f"{len(survivors)} faults turned no test red")


if __name__ == "__main__":
    main()
