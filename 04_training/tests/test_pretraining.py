"""train.py and infer.py as a reader runs them: recipes, resuming after anything, refusals."""

import csv
import os
import signal
import subprocess
import sys
import time

import checkpoint
import flags
import pretraining
import pytest
import recipes
import torch
from for_tests import ROOT, refuse, run, succeed
from gpt import FAMILIES, GPT, GPTConfig

SMALL = (32, 4, 16, 3e-3, 20, 2, 2, 0.0)
TRAIN = "04_training/train.py"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "play.txt"
    lines = [f"Citizen {i % 7}:\nBefore we proceed, hear me speak {i * i % 11} words.\n" for i in range(400)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    saved = tmp_path_factory.mktemp("run") / "a.pt"
    words = ("-d", text, "-t", "char", "-s", saved, "--multi_token", 0.3, "--samples", 1, *SMALL)
    return saved, succeed(TRAIN, *words)


@pytest.mark.slow
def test_what_a_run_leaves(trained):
    saved, out = trained
    assert out.count(", validation loss") == 10 and "tokens of" in out
    lines = out.splitlines()
    assert lines[lines.index(next(line for line in lines if line.startswith("step 2:"))) + 1].startswith("    '")
    with open(saved.with_suffix(".csv"), newline="", encoding="utf-8") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, 21))
    assert saved.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    last, best = checkpoint.load(saved, "gpt"), checkpoint.load(saved.with_stem("a_best"), "gpt")
    losses = {row["step"]: row["validation_loss"] for row in last["progress"]["history"] if row["validation_loss"]}
    assert best["progress"]["step"] == min(losses, key=losses.get) == last["progress"]["best_step"]
    assert "multi_token" in last and not any("join" in name for name in last["model"])


@pytest.mark.slow
def test_curves_of_several_runs(trained, tmp_path):
    saved, _ = trained
    log, picture = saved.with_suffix(".csv"), tmp_path / "c.png"
    succeed("04_training/curves.py", log, log, "-o", picture)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "other.csv").write_text("name,age\nAda,36\n", encoding="utf-8")
    assert "no log of a run" in refuse("04_training/curves.py", tmp_path / "other.csv", "-o", picture)
    assert "no log of a run" in refuse("04_training/curves.py", saved, "-o", picture)


@pytest.mark.slow
def test_infer_shows_both_ways_and_drafts(trained, text):
    saved, _ = trained
    out = succeed("04_training/infer.py", "Citizen", "-l", saved, "-n", 12)
    assert "======== drawn by chance" in out and "======== beam search, 4 beams" in out and out.count("Citizen") == 2
    out = succeed("04_training/infer.py", "Citizen", "-l", saved, "-n", 8, "--drafts")
    assert "drafts right" in out
    assert "--drafts has room for" in refuse("04_training/infer.py", "Citizen", "-l", saved, "-n", 500, "--drafts")
    alone = saved.with_name("alone.pt")
    succeed(TRAIN, "-d", text, "-t", "char", "-s", alone, *SMALL)
    assert "no second head" in refuse("04_training/infer.py", "Citizen", "-l", alone, "--drafts")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: Windows has no kill -9")
@pytest.mark.parametrize("extra", [("--optimizer", "adamw"), ("--ngrams", 3, "--multi_token", 0.3)], ids=str)
def test_kill_9_at_any_moment_then_l_goes_on_bit_for_bit(text, tmp_path, extra):
    numbers = (32, 4, 16, 3e-3, 300, 2, 2, 0.2)
    words = ["-d", str(text), "-t", "char", *map(str, (*extra, *numbers))]
    command = [sys.executable, str(ROOT / TRAIN), *words, "-s", str(tmp_path / "a.pt")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               encoding="utf-8", env={**os.environ, "PYTHONUNBUFFERED": "1"})
    for line in process.stdout:
        if line.startswith("step 120:"):
            time.sleep(0.05)  # somewhere in the steps after it, or in saving
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    stopped = checkpoint.load(tmp_path / "a.pt", "gpt")["progress"]["step"]
    assert 90 <= stopped < 300
    out = succeed(TRAIN, "-l", tmp_path / "a.pt")
    assert f"after step {stopped}" in out, "-l alone must find text, optimizer and numbers"
    succeed(TRAIN, *words, "-s", tmp_path / "b.pt")
    ours, theirs = (checkpoint.load(tmp_path / name, "gpt") for name in ("a.pt", "b.pt"))
    for ours_at, theirs_at in zip(ours["progress"]["history"], theirs["progress"]["history"], strict=True):
        assert {**ours_at, "seconds": 0} == {**theirs_at, "seconds": 0}
    assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in theirs["model"])


@pytest.mark.slow
def test_what_changes_no_result(text, tmp_path):
    """Micro-batches and recomputed activations: the same weights up to rounding."""
    common = ("-d", text, "-t", "char", *SMALL)
    models = []
    for name, extra in (("plain", ()), ("micro", ("--micro_batch", 32)), ("again", ("--recompute",))):
        succeed(TRAIN, *common, "-s", tmp_path / f"{name}.pt", *extra)
        models.append(checkpoint.load(tmp_path / f"{name}.pt", "gpt")["model"])
    for other in models[1:]:
        assert max((models[0][name] - other[name]).abs().max().item() for name in other) < 1e-4


def test_recompute_keeps_no_activations_within_blocks():
    torch.manual_seed(0)
    model = GPT(GPTConfig(30, 32, 64, 2, 4, dropout=0.2, **FAMILIES["llama"]))
    ids = torch.randint(30, (4, 64))

    def gradients():
        kept = []
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            loss = model(ids, ids)[1]
        model.zero_grad()
        loss.backward()
        return sum(kept), [w.grad.clone() for w in model.parameters()]

    plain, expected = gradients()
    pretraining.recompute(model)
    again, found = gradients()
    assert again < plain / 4
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected)), "is dropout the same the second time?"


@pytest.mark.slow
def test_mix_documents_and_other_choices(text, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("speak, hear me\n" * 200, encoding="utf-8")
    saved = tmp_path / "m.pt"
    succeed(TRAIN, "-d", text, "-t", "char", "--mix", other, 0.5, "--documents", "--ngrams", 4, "--family", "gpt2",
            "--schedule", "warmup_stable_decay", "--optimizer", "plain_adamw", "-s", saved, *SMALL)
    contents = checkpoint.load(saved, "gpt")
    assert contents["config"]["positions"] == "learned" and contents["config"]["ngram_longest"] == 4
    assert contents["run"]["mix"] == [[str(other), "0.5"]] and contents["run"]["documents"] is True
    assert "drawn by chance" in succeed("04_training/infer.py", "speak", "-l", saved, "-n", 5)


def test_flags_that_are_typed_win_over_recipes_and_these_over_defaults():
    def parse(*words):
        return recipes.parse(recipes.training_arguments(""), list(map(str, words)))

    args = parse()
    assert args.data == "pydocs" and args.steps == recipes.RECIPES["pydocs"]["steps"]
    args = parse("-d", "tinyshakespeare", "--optimizer", "sgd", 64)
    known = recipes.RECIPES["tinyshakespeare"]
    assert (args.tokenizer, args.optimizer, args.embedding_size) == ("char", "sgd", 64) and args.steps == known["steps"]
    args = parse("--recipe", "openwebtext", "-d", "my.txt")
    report = (384, 64, 256, 3e-4, 5000, 6, 6, 0.2)
    assert tuple(getattr(args, name) for name in flags.NUMBERS) == report and args.data == "my.txt"
    assert (args.tokenizer_model, args.family, args.optimizer) == ("o200k_base", "gpt2", "adamw")


@pytest.mark.slow
@pytest.mark.parametrize("words, said", [
    (("--mix", "pydocs", "1.5"), "above 0 and below 1"),
    (("--mix", "pydocs", "much"), "above 0 and below 1"),
    (("--warmup", "2"), "from 0 to 1"),
    (("--clip", "0"), "clip 0.0 must be more than 0"),
    (("--patience", "0"), "patience 0 must be at least 1"),
    (("-l", "nowhere.pt"), "no checkpoint nowhere.pt"),
    (("--ngrams", "1"), "ngrams 1 must be 0 or at least 2"),
])
def test_refusals(text, words, said):
    assert said in refuse(TRAIN, "-d", text, "-t", "char", "-s", "no_save", *words, *SMALL)


@pytest.mark.slow
def test_without_tensorboard_the_flag_says_how_to_get_it(text, tmp_path):
    (tmp_path / "tensorboard.py").write_text("raise ImportError", encoding="utf-8")
    words = ("-d", text, "-t", "char", "-s", "no_save", "--tensorboard", tmp_path / "runs", *SMALL)
    assert "pip install tensorboard" in refuse(TRAIN, *words, PYTHONPATH=str(tmp_path))


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_what_was_saved(text, tmp_path):
    words = ("-d", text, "-t", "char", "-s", tmp_path / "a.pt", "--optimizer", "sgd", "--clip", 1e30)
    process = run(TRAIN, *words, 32, 4, 16, 1e20, 40, 2, 2)
    assert process.returncode == 2 and process.stdout.count("skipped") == 5
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("train.py: the loss is nan") and "smaller learning_rate" in last
    assert not (tmp_path / "a.pt").exists(), "weights that are no numbers were saved"
