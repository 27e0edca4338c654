"""The main job and its halves, run as a reader would run them."""

import math
import os
import re
import signal
import subprocess
import sys

import checkpoint
import pytest
from for_tests import ROOT, refuse, run, shared, succeed, tiktoken_vocabularies

SMALL = (16, 4, 16, 3e-3, 30, 2, 2, 0.1)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A file of 200,000 characters, in a folder of its own."""
    path = tmp_path_factory.mktemp("texts") / "play.txt"
    path.write_text(shared("tinyshakespeare/input.txt").read_text(encoding="utf-8")[:200_000], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(text):
    saved = text.parent / "trained.pt"
    return saved, succeed("03_gpt/lm_model.py", "-t", "char", "-d", text, "-s", saved, *SMALL)


def after(marker, out):
    return out[out.index(marker) :]


@pytest.mark.slow
def test_what_it_prints_and_leaves(trained):
    saved, out = trained
    for pattern in (
        r"device \w+, dtype float32, [\d,]+ parameters",
        r"180,001 training and 20,000 validation tokens",
        r"loss before training (\d\.\d{3}), and ln\(vocabulary size 6\d\) is (\d\.\d{3})",
        r"about .* of training to go; Ctrl-C saves and stops",
        r"step 30: training loss \d\.\d{3}, validation loss \d\.\d{3}",
        r"validation loss (\d\.\d{3}), perplexity ([\d.]+) on all 20,000 validation tokens",
        r"checkpoint .*trained.pt, loss curve .*trained.png",
        r"---- prompt\n(.|\n)+---- the model goes on\n(.|\n)+\n---- \(120 tokens, \d+\.\d s\)\n",
    ):
        assert re.search(pattern, out), f"nothing like {pattern!r} in {out}"
    before, nothing = map(float, re.search(r"training (\d\.\d+), and .* is (\d\.\d+)", out).groups())
    loss, perplexity = map(float, re.search(r"loss (\d\.\d+), perplexity ([\d.]+)", out).groups())
    assert abs(before - nothing) < 0.25 and loss < before and math.isclose(math.exp(loss), perplexity, rel_tol=0.01)
    assert saved.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert saved.with_suffix(".csv").read_text(encoding="utf-8").count("\n") == 31
    contents = checkpoint.load(saved, "gpt")
    assert {"model", "config", "tokenizer", "run", "optimizer", "progress"} <= contents.keys()
    assert contents["progress"]["step"] == 30 and len(contents["progress"]["history"]) == 30


@pytest.mark.slow
def test_same_seed_same_numbers(text, trained, tmp_path):
    words = ("03_gpt/lm_model.py", "-t", "char", "-d", text, "-s", tmp_path / "b.pt")
    _, first = trained

    def numbers(out):
        return re.findall(r"loss \d\.\d+", out) + [re.sub(r"\d+\.\d s", "", after("---- prompt", out))]

    assert numbers(succeed(*words, *SMALL)) == numbers(first)
    assert numbers(succeed(*words, "--seed", 7, *SMALL)) != numbers(first)


@pytest.mark.slow
def test_halves(text, trained, tmp_path):
    saved, _ = trained
    out = succeed("03_gpt/train.py", "-t", "char", "-d", text, "-s", tmp_path / "half.pt", *SMALL)
    assert "checkpoint" in out and "---- prompt" not in out
    ours = checkpoint.load(tmp_path / "half.pt", "gpt")["model"]
    theirs = checkpoint.load(saved, "gpt")["model"]
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    for words in (("First",), ("-p", "First"), ("First", "--dtype", "bfloat16")):
        out = succeed("03_gpt/infer.py", *words, "-l", saved, "-n", 15, "--temperature", 0)
        prompt, _, rest = out.partition("\n---- the model goes on\n")
        text, _, end = rest.partition("\n---- (15 tokens, ")
        assert prompt.endswith("---- prompt\nFirst") and 0 < len(text) <= 15 and end.endswith(" s)\n")


@pytest.mark.slow
def test_no_train_in_every_spelling(text, trained):
    saved, _ = trained
    common = ("03_gpt/lm_model.py", "-l", saved, "-d", text, "-s", "no_save", "-n", 10)
    before = saved.read_bytes()
    out = succeed("03_gpt/lm_model.py", "-l", saved, "--no_train", "-p", "First", "-n", 5)
    assert "pydocs" not in out, "a prompt needs no text to be found in"
    outs = [
        succeed(*common, *words)
        for words in (("--no_train",), ("--no_train", *SMALL), (*SMALL, "--no_train", "True"), ("--no_train=True", 16))
    ]
    assert all("step" not in out and "---- the model goes on" in out for out in outs) and saved.read_bytes() == before
    assert "step 30:" in succeed(*common, "--no_train", "False", *SMALL), "False must mean False"


@pytest.mark.slow
def test_a_finished_run_goes_on_from_its_weights(text, trained, tmp_path):
    saved, first = trained
    out = succeed("03_gpt/lm_model.py", "-l", saved, "-d", text, "-s", tmp_path / "more.pt")
    before = float(re.search(r"loss before training (\d\.\d+)", out)[1])
    final = float(re.search(r"validation loss (\d\.\d+), perplexity", first)[1])
    assert abs(before - final) < 0.02 and "step 30:" in out and "going on" not in out


@pytest.mark.slow
def test_real_weights_are_trained_further(text, tmp_path):
    weights, saved = shared("stories260K/stories260K.bin"), tmp_path / "more.pt"
    words = ("-d", text, "-s", saved, 64, 4, 32, 1e-3, 20)
    out = succeed("03_gpt/train.py", "-l", weights, *words)
    before = float(re.search(r"loss before training (\d+\.\d+)", out)[1])
    after = float(re.search(r"validation loss (\d+\.\d+), perplexity", out)[1])
    assert after < before - 0.3 and checkpoint.load(saved, "gpt")["config"]["block_size"] == 512
    assert "contradicts" in refuse("03_gpt/train.py", "-l", weights, "-d", text, "-s", "no_save", 65)
    assert "going on" not in succeed("03_gpt/train.py", "-l", saved, "-d", text, "-s", "no_save", 64, 4)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: Windows can't send a Ctrl-C to one process")
def test_ctrl_c_saves_and_l_resumes_bit_for_bit(text, tmp_path):
    numbers = (16, 4, 16, 3e-3, 400, 2, 2, 0.1, "--seed", 7)
    words = ["-t", "char", "-d", str(text), "-s", str(tmp_path / "a.pt"), *map(str, numbers)]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "03_gpt/lm_model.py"), *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    for line in process.stdout:
        if line.startswith("step 80:"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait() == 130 and "saved: -l" in rest, rest
    stopped = checkpoint.load(tmp_path / "a.pt", "gpt")["progress"]["step"]
    assert 80 <= stopped < 400 and f"stopped after step {stopped}" in rest
    (tmp_path / "part.txt").write_text(text.read_text(encoding="utf-8")[:100_000], encoding="utf-8")
    assert "other text" in refuse("03_gpt/lm_model.py", "-l", tmp_path / "a.pt", "-d", tmp_path / "part.txt")
    assert f"step {stopped} of 400" in succeed("03_gpt/infer.py", "-l", tmp_path / "a.pt", "-n", 2)
    out = succeed("03_gpt/lm_model.py", "-l", tmp_path / "a.pt", "-d", text)
    assert f"going on with the unfinished run of {tmp_path / 'a.pt'} after step {stopped}" in out
    straight = succeed("03_gpt/lm_model.py", "-t", "char", "-d", text, "-s", tmp_path / "b.pt", *numbers)
    assert after("step 400", out).splitlines()[:2] == after("step 400", straight).splitlines()[:2]
    ours, theirs = checkpoint.load(tmp_path / "a.pt", "gpt"), checkpoint.load(tmp_path / "b.pt", "gpt")
    assert all((ours["model"][name] == theirs["model"][name]).all() for name in theirs["model"])
    histories = ([{**row, "seconds": 0} for row in each["progress"]["history"]] for each in (ours, theirs))
    assert next(histories) == next(histories)


@pytest.mark.slow
def test_the_reports_first_command_from_inside_the_chapter(text, tmp_path):
    """As printed there, but for fewer steps; -l names a file that does not exist yet."""
    vocabularies = tiktoken_vocabularies(tmp_path)
    model, short = tmp_path / "models" / "lm.pt", tmp_path / "short.txt"
    short.write_text(text.read_text(encoding="utf-8")[:8000], encoding="utf-8")
    words = ["-t", "tiktoken", "-m", "o200k_base", "-l", model, "-s", model, "-d", short]
    out = succeed("03_gpt/lm_model.py", *words, 8, 8, 4, "1e-3", 40, 4, 3, 0.1, cwd=ROOT / "03_gpt", **vocabularies)
    assert "does not exist yet: starting untrained" in out and "ln(vocabulary size 200,019) is 12.206" in out
    assert model.exists()
    out = succeed("03_gpt/lm_model.py", *words, "--no_train", 8, 8, 4, cwd=ROOT / "03_gpt", **vocabularies)
    assert "---- the model goes on" in out


@pytest.mark.slow
def test_the_reports_second_command_fits_in_6_gb(text, tmp_path):
    """One step, with half its batch to save time: its logits alone would be 6.6 GB, and their gradients too."""
    resource = pytest.importorskip("resource", reason="missing hardware: Windows can't tell its peak memory")
    short = tmp_path / "short.txt"
    short.write_text(text.read_text(encoding="utf-8")[:20_000], encoding="utf-8")
    words = ["-t", "tiktoken", "-m", "o200k_base", "-s", "no_save", "-d", short, "-n", 2]
    out = succeed(
        "03_gpt/lm_model.py", *words, 384, 32, 256, "3e-4", 1, 6, 6, 0.2,
        **tiktoken_vocabularies(tmp_path), PYTHONUNBUFFERED="1",
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert "87,553,152 parameters" in out and "step 1:" in out
    assert peak < 6e9, f"peak memory {peak / 1e9:.1f} GB: are the logits held all at once?"


@pytest.mark.slow
def test_mistakes_end_in_one_line_with_the_cure(text, trained, tmp_path):
    saved, _ = trained
    script = "03_gpt/lm_model.py"
    assert "embedding_size 10 must be divisible by head_count 4" in refuse(script, 10, 4, 8, 1e-3, 10, 4)
    assert "no corpus 'missing.txt'" in refuse(script, "-d", "missing.txt")
    (tmp_path / "short.txt").write_text("short", encoding="utf-8")
    assert "one block takes 64" in refuse(script, "-t", "char", "-d", tmp_path / "short.txt", 16, 2, 64)
    (tmp_path / "empty.txt").touch()
    assert "is empty" in refuse(script, "-d", tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("äöü".encode("latin-1") * 100)
    assert "save it as UTF-8" in refuse(script, "-d", tmp_path / "latin.txt")
    assert "embedding_size 32 contradicts" in refuse(script, "-l", saved, "-d", text, 32)
    assert "contradict" in refuse(script, "-l", saved, "-d", text, "-t", "tokenizer")
    assert "add '-s nowhere.pt'" in refuse(script, "-l", "nowhere.pt")
    assert "name a checkpoint with -l" in refuse(script, "--no_train")
    assert "damaged or no checkpoint" in refuse("03_gpt/infer.py", "-l", text)
    assert "seed -1 must be" in refuse(script, "--seed", -1)
    assert "can't write to" in refuse(script, "-s", tmp_path / "short.txt" / "x.pt")
    words = ("-t", "char", "-d", text, "-s", "no_save", 16, 4, 16, 1e30, 30, 2, 2)
    process = run(script, *words)  # its progress bar stands above the line
    assert process.returncode == 2 and "smaller learning_rate" in process.stderr.splitlines()[-1]
    assert "steps 0 must be more than 0" in refuse(script, 16, 4, 16, 3e-3, 0)
    assert "none of the" in refuse("03_gpt/infer.py", "ß", "-l", saved)
    assert "no device 'gpu'" in refuse(script, "--device", "gpu", "-d", text, "-t", "char", *SMALL)


@pytest.mark.slow
def test_prepared_tokens_are_data_too(text, tmp_path):
    succeed("01_tokenizer/prepare.py", "-t", "char", "-d", text, "-o", tmp_path / "tokens")
    out = succeed("03_gpt/train.py", "-d", tmp_path / "tokens", "-s", tmp_path / "a.pt", *SMALL)
    assert "180,001 training" in out
    words = ("-t", "tiktoken", "-d", tmp_path / "tokens", "-s", "no_save", *SMALL)
    assert "contradict" in refuse("03_gpt/train.py", *words)
