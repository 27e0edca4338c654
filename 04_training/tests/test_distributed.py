"""Two processes with half of each batch learn what one learns with all of it."""

import os
import subprocess
import sys

import checkpoint
import pytest
from for_tests import ROOT, succeed

NUMBERS = (32, 4, 16, 3e-3, 12, 2, 2, 0.0)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "play.txt"
    path.write_text("First Citizen:\nBefore we proceed any further, hear me speak.\n\n" * 300, encoding="utf-8")
    return path


def together(*words):
    """Run train.py as torchrun would with two processes on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(ROOT / "04_training/train.py"), *map(str, words)]
    process = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True,
                             text=True, encoding="utf-8", timeout=300)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: torchrun was not tried on Windows")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_equal_one_with_twice_the_batch(text, tmp_path, optimizer):
    common = ("-d", text, "-t", "char", "--optimizer", optimizer, "--ngram_dropout", 0)
    out = together(*common, "-s", tmp_path / "two.pt", *NUMBERS, "--micro_batch", 32)
    double = (NUMBERS[0], 8, *NUMBERS[2:])
    alone = succeed("04_training/train.py", *common, "-s", tmp_path / "one.pt", *double)
    assert out.count("step 12:") == alone.count("step 12:") == 1, "only the first process may speak"
    two, one = (checkpoint.load(tmp_path / name, "gpt") for name in ("two.pt", "one.pt"))
    for ours, theirs in zip(two["progress"]["history"], one["progress"]["history"], strict=True):
        for name in ("training_loss", "validation_loss"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-5)
    largest = max((two["model"][name] - one["model"][name]).abs().max().item() for name in one["model"])
    assert largest < 1e-4, "are gradients averaged, and rows shared out?"
