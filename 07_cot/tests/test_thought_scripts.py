"""The scripts of thoughts and router, small, in a copy of the repository whose reasoner has learned nothing."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import checkpoint
import pytest
import torch
from for_tests import ROOT, heed_ctrl_c, refuse
from gpt import GPT, GPTConfig
from problem_batches import new_tokenizer
from reasoner import PARTS

TOKENIZER = new_tokenizer()
FEW = ("--problems", 60, "--base_steps", 10, "--answer_steps", 10, "--chains", 10, "--sequence_steps", 10,
       "--on_policy_steps", 10, "--routed", 4, "--hardest", 3)


def tiny(seed=0):
    torch.manual_seed(seed)
    parts = PARTS | {"key_value_head_count": 2, "window": 4, "window_layers": 1}
    return GPT(GPTConfig(TOKENIZER.vocab_size, 32, 128, 2, 2, **parts)).eval()


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    root = tmp_path_factory.mktemp("copy")
    for folder in ("checkpoints", "data", "01_tokenizer", "02_attention", "03_gpt", "04_training", "07_cot"):
        (root / folder).mkdir()
        for path in (ROOT / folder).glob("*.py"):
            shutil.copy(path, root / folder)
    model = tiny()
    for data in ("arithmetic", "addition"):
        checkpoint.save(root / "checkpoints" / f"07_cot_{data}.pt", "gpt", model=model.state_dict(),
                        config=asdict(model.config), tokenizer=TOKENIZER.state(), optimizer={},
                        run={"style": "chain", "data": data, "difficulty": 8, "steps": 1, "seed": 1337},
                        progress={"finished": True, "step": 1})
    return root


ASKING = """
import sys
sys.path[:0] = ["07_cot"]
from thoughts import plan_of, routed, thought_arguments
args = thought_arguments("").parse(sys.argv[1:])
print("\\n".join(routed("3*9+6?", args, plan_of(args))))
"""


def ran(root, script, *words):
    process = subprocess.run([sys.executable, str(root / "07_cot" / script), *map(str, words)], cwd=root.parent,
                             env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, encoding="utf-8",
                             timeout=300)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


@pytest.mark.slow
def test_the_pieces_are_trained_once_and_measured(copied):
    out = ran(copied, "thoughts.py", *FEW)
    for piece in ("base", "answers", "tiny", "first", "router"):
        assert out.count(f"07_thoughts_arithmetic_{piece}") >= 1, piece
    assert "calibration error" in out
    again = ran(copied, "thoughts.py", *FEW)
    assert "training" not in again and again.count(".pt") == 4
    out = ran(copied, "router_curve.py", *FEW, "--seeds", 1337, "--limit", 5, "-o", copied / "router.png")
    assert "| seed | at once | always | router |" in out and "\n| 1337 | " in out and "\n| 3 | 5 | " in out
    assert (copied / "router.png").read_bytes()[:4] == b"\x89PNG"
    out = subprocess.check_output([sys.executable, "-c", ASKING, *map(str, FEW)], cwd=copied, encoding="utf-8",
                                  timeout=300)
    assert "\n3*9+6?  (" in out and "\n0 thoughts: 0." in out
    assert re.search(r"\nanswer: .*; \d+ tokens written, \d+ read\n", out)
    out = ran(copied, "router_curve.py", *FEW, "--seeds", 1337, "--limit", 5, "--distillation")
    assert "\n| teacher | " in out and "\n| both steps | " in out


@pytest.mark.slow
def test_another_family(copied):
    out = ran(copied, "router_curve.py", "-d", "addition", *FEW, "--seeds", 5, "--limit", 4, "-o", copied / "other.png")
    assert "addition, difficulties up to 3" in out and "\n| 5 | " in out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: Windows can't send a Ctrl-C to one process")
def test_ctrl_c_keeps_what_was_trained_and_a_second_call_goes_on(copied):
    words = [sys.executable, str(copied / "07_cot" / "thoughts.py"), *map(str, FEW), "--base_steps", "3000"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", cwd=copied,
                               env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=heed_ctrl_c)
    for line in process.stdout:
        if "Ctrl-C saves" in line:
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(60) == 130 and "stopped after step" in rest and "saved:" in rest, rest[-2000:]
    (saved,) = (path for path in copied.glob("checkpoints/*base*.pt")
                if not checkpoint.load(path, "gpt")["progress"]["finished"])
    step = checkpoint.load(saved, "gpt")["progress"]["step"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", cwd=copied,
                               env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=heed_ctrl_c)
    for line in process.stdout:
        if "going on with the unfinished run" in line:
            assert f"after step {step:,}" in line
            break
    else:
        pytest.fail("it began anew")
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("words", "cure"), [
    (["-d", "algebra"], "choose from arithmetic"), (["--hardest", "99"], "must be from 1 to 40"),
    (["--rank", "0"], "must be at least 1"), (["--seed", "-1"], "must be 0 or more"),
])
def test_mistakes(words, cure):
    assert cure in refuse("07_cot/thoughts.py", *words)
