"""Fine-tuning by examples: what is learned, what is frozen, what is saved, and that it goes on."""

import os
import re
import signal
import subprocess
import sys
from argparse import Namespace

import checkpoint
import fine_tuning
import judge
import pytest
import sft
import torch
from fine_tuning import open_model
from flags import UserError
from for_tests import ROOT, refuse, succeed
from gpt import GPT, GPTConfig
from packing import fill_rows

SFT, INFER = "04_training/sft.py", "04_training/infer.py"
NUMBERS = (4, 64, 1e-2)  # batch_size, block_size, learning_rate


@pytest.fixture(scope="module")
def trained(talks, base, tmp_path_factory):
    """(path of a checkpoint that has learned the four answers, what was printed)."""
    path = tmp_path_factory.mktemp("sft") / "sft.pt"
    return path, succeed(SFT, "-l", base, "-d", talks, "-s", path, *NUMBERS, 100, 0)


def held_out_loss(out):
    return float(re.search("loss of all held-out answers ([\\d.]+)", out)[1])


@pytest.mark.slow
def test_the_model_learns_to_answer_and_to_end(trained, base):
    path, out = trained
    assert float(re.search("loss before training ([\\d.]+)", out)[1]) > 4 and held_out_loss(out) < 0.3, out
    out = succeed(INFER, "What is oak?", "--compare", base, path, "-n", 20, "--temperature", 0)
    assert "a tree." in out and "a tree. ..." not in out, "it must have learned to end its answer"
    out = succeed(INFER, "What is oak?", "--compare", path, "-n", 20, "--temperature", 0, "--stop", "ree")
    assert "a t" in out and "ree" not in out and "..." not in out, "a stop ends an answer, and is no part of it"


@pytest.mark.slow
def test_chat(trained):
    said = "What is dog?\n/reset\nWhat is ten?\n/nothing\n\n" + 60 * "long " + "\n/quit\nnever\n"
    out = succeed(INFER, "--chat", "-l", trained[0], "-n", 20, "--temperature", 0, typed=said).splitlines()[1:]
    assert out[:6] == ["you: What is dog?", "model: an animal.", "(forgotten)", "you: What is ten?",
                       "model: a number.", "no command /nothing: there are /reset and /quit"]
    assert "ask a shorter one" in out[6] and len(out) == 7, "did /quit end it?"
    out = succeed(INFER, "--chat", "-l", trained[0], "-n", 2, "--temperature", 0, typed="What is dog?\n")
    assert "an ... (-n for more)" in out, "an answer that was cut off must look so"
    assert "ask it with --compare" in refuse(INFER, "What is dog?", "--chat", "-l", trained[0])


@pytest.mark.slow
def test_adapters_alone_are_saved_and_find_their_base(talks, base, tmp_path):
    before = checkpoint.load(base, "gpt")["model"]
    saved = tmp_path / "deeper" / "lora.pt"
    out = succeed(SFT, "-l", base, "-d", talks, "-s", saved, "--lora", "--rank", 4, *NUMBERS, 60)
    assert "trainable 4,856 of" in out and held_out_loss(out) < 4
    contents = checkpoint.load(saved, "adapters")
    assert all(name.endswith((".A", ".B")) for name in contents["model"]) and "base.pt" in contents["base"]
    assert checkpoint.load(base, "gpt")["model"].keys() == before.keys()
    model, tokenizer, _ = open_model(saved)
    assert model.state_dict().keys() == before.keys(), "opened, adapters are merged"
    held_out = sft.examples(sft.conversations(str(talks), "validation"), tokenizer, 64)
    assert sft.answer_loss(model, held_out, 4, 64) == pytest.approx(held_out_loss(out), abs=1e-3)
    # and further from there, with other adapters upon those
    further = tmp_path / "further.pt"
    out = succeed(SFT, "-l", saved, "-d", talks, "-s", further, "--adapter", *NUMBERS, 10)
    assert checkpoint.load(further, "adapters")["base"] == os.path.join("deeper", "lora.pt")
    model, _, _ = open_model(further)
    assert sft.answer_loss(model, held_out, 4, 64) == pytest.approx(held_out_loss(out), abs=1e-3)
    assert "can't be merged" in refuse(SFT, "-l", further, "-d", talks, "-s", "no_save", *NUMBERS, 10)
    assert "can't take the place of" in refuse(SFT, "-l", saved, "-d", talks, "-s", saved, "--lora", *NUMBERS, 10)
    assert "'adapters', not 'gpt': merge it first" in refuse("03_gpt/infer.py", "-l", saved)
    # whose base must stay what it was
    succeed(SFT, "-l", base, "-d", talks, "-s", saved, "--lora", "--rank", 4, "--seed", 1, *NUMBERS, 60)
    with pytest.raises(UserError, match="has other weights than when"):
        open_model(further)
    saved.rename(tmp_path / "moved.pt")
    with pytest.raises(UserError, match=r"further.pt was trained upon .*lora.pt, which is not there"):
        open_model(further)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: Windows has no such signal")
@pytest.mark.parametrize("extra", [(), ("--qlora", "--dora")], ids=str)
def test_an_unfinished_run_goes_on_bit_for_bit(talks, base, tmp_path, extra):
    words = [str(word) for word in ("-l", base, "-d", talks, *extra, *NUMBERS, 60, 0.1)]
    process = subprocess.Popen([sys.executable, str(ROOT / SFT), *words, "-s", str(tmp_path / "a.pt")],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
                               env={**os.environ, "PYTHONUNBUFFERED": "1"})
    for line in process.stdout:
        if line.startswith("step 18:"):
            process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    process.stdout.close()
    assert "a.pt holds an unfinished run, after step" in refuse(SFT, *words, "-s", tmp_path / "a.pt")
    if not extra:
        assert "an unfinished run without adapters" in refuse(SFT, "-l", tmp_path / "a.pt", "--lora")
    assert "going on with the unfinished run" in succeed(SFT, "-l", tmp_path / "a.pt"), "-l alone must find the rest"
    succeed(SFT, *words, "-s", tmp_path / "b.pt")
    ours, theirs = (checkpoint.load(tmp_path / name, "gpt", "adapters") for name in ("a.pt", "b.pt"))
    assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in theirs["model"])


@pytest.mark.slow
def test_rows_do_not_change_the_held_out_loss(trained, talks):
    model, tokenizer, _ = open_model(trained[0])
    held_out = sft.examples(sft.conversations(str(talks), "train"), tokenizer, 64)
    assert len(fill_rows([len(ids) for ids, _ in held_out], 64)) < len(held_out)
    alone = sum(sft.answer_loss(model, [each], 1, 64) * sum(each[1][1:]) for each in held_out)
    count = sum(sum(counted[1:]) for _, counted in held_out)
    assert sft.answer_loss(model, held_out, 3, 64) == pytest.approx(alone / count, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "said"), [
    (("-d", "nothing"), "no conversations 'nothing': choose from docs"),
    (("-d", "none.jsonl"), "no file 'none.jsonl': choose from docs"), (("--show", -1), "show -1 must be at least 0"),
    (("-s", "{talks}", *NUMBERS, 1), "is there, and no checkpoint: give another path with -s"),
    (("--rank", 4), "--rank goes with --lora"),
    (("--lora", "--targets", "head"), "no layer 'head' in this model's blocks"),
    ((4, 4), "no conversation of"),
    (("-s", "."), "can't write to"),
    ((4, 64, -1), "learning_rate -1.0 must be more than 0"),
])
def test_refusals(talks, base, words, said):
    talks_before = talks.read_bytes()
    data = () if "-d" in words else ("-d", talks)
    save = () if "-s" in words else ("-s", "no_save")
    assert said in refuse(SFT, "-l", base, *data, *save, *(talks if word == "{talks}" else word for word in words))
    assert talks.read_bytes() == talks_before


def test_a_loss_that_has_risen_again_is_told(monkeypatch, capsys):
    """What train_and_keep says is made up here: only what is said of it counts."""
    for losses, told in (((3.0, 2.0, 2.5), "lowest at step 20, 2.000"), ((3.0, 2.0, 1.9), "")):
        history = [{"step": 10 * i, "seconds": 1.0, "validation_loss": loss} for i, loss in enumerate(losses, 1)]
        monkeypatch.setattr(fine_tuning, "train_and_keep", lambda *_, history=history, **__: history)
        model = GPT(GPTConfig(9, 8, 8, 2, 1))
        start = fine_tuning.Start(model, None, torch.float32, None, None, None, None, None, None)
        args = Namespace(data="docs", learning_rate=1e-3, steps=30, seed=1, batch_size=1, block_size=8)
        assert fine_tuning.fine_tune(start, args, "sft", None, None) is history
        said = capsys.readouterr().out
        assert told in said and ("lowest" in said) == bool(told)


@pytest.mark.slow
def test_show_marks_what_counts(talks, base):
    lines = succeed(SFT, "--show", 1, "-l", base, "-d", talks).splitlines()
    assert [line for line in lines if "|" in line and "'|'" not in line][0].endswith("| 'a'")
    assert lines[-1].endswith("| '<|endoftext|>'")


@pytest.mark.slow
def test_merged_adapters_are_a_model_for_all_the_others(talks, base, tmp_path):
    saved, whole, folder = tmp_path / "lora.pt", tmp_path / "whole.pt", tmp_path / "folder"
    out = succeed(SFT, "-l", base, "-d", talks, "-s", saved, "--lora", *NUMBERS, 40)
    succeed("04_training/merge.py", saved, whole)
    succeed("04_training/merge.py", saved, folder)
    for path in (whole, folder):
        model, tokenizer, _ = open_model(path)
        held_out = sft.examples(sft.conversations(str(talks), "validation"), tokenizer, 64)
        assert sft.answer_loss(model, held_out, 4, 64) == pytest.approx(held_out_loss(out), abs=1e-3)
        succeed("03_gpt/infer.py", "red", "-l", path, "-n", 3)
    assert "no exported model: name a new folder" in refuse("04_training/merge.py", saved, tmp_path)
    assert "another path than the checkpoint's" in refuse("04_training/merge.py", saved, saved)
    half = checkpoint.load(saved, "adapters")
    half["progress"]["finished"] = False
    checkpoint.save(saved, **{name: value for name, value in half.items() if name != "format"})
    assert "is unfinished: step 40 of 40" in succeed("04_training/merge.py", saved, whole)
    assert "going on" not in succeed(SFT, "-l", whole, "-d", talks, "-s", "no_save", *NUMBERS, 1), "whose state is gone"
    # adapters upon a base that has changed since would mean nothing
    other = checkpoint.load(base, "gpt")
    other["model"] = {name: w * 1.01 for name, w in other["model"].items()}
    moved = {name: value for name, value in other.items() if name not in ("format", "kind")}
    beside = tmp_path / "base.pt"
    checkpoint.save(beside, "gpt", **moved)
    contents = checkpoint.load(saved, "adapters")
    checkpoint.save(saved, "adapters", **{name: value for name, value in contents.items()
                                          if name not in ("format", "kind")} | {"base": "base.pt"})
    assert "other weights than when" in refuse(INFER, "--chat", "-l", saved)


def test_answers_do_not_depend_on_what_else_is_asked(trained):
    model, tokenizer, _ = open_model(trained[0])
    asked = ["What is oak?", "What is red?", "And, if you please, what is ten?"]
    together = judge.answers(model, tokenizer, asked, torch.float32)
    assert together[:2] == [("a tree.", True), ("a colour.", True)]
    assert together == [judge.answers(model, tokenizer, [question], torch.float32)[0] for question in asked]


@pytest.mark.slow
def test_adapters_of_a_model_that_reads_longer_texts_than_before(talks, base, tmp_path):
    saved = tmp_path / "long.pt"
    succeed(SFT, "-l", base, "-d", talks, "-s", saved, "--lora", 4, 300, 1e-2, 5)
    model, tokenizer, _ = open_model(saved)
    assert model.config.block_size == 300
    assert model(torch.randint(tokenizer.vocab_size, (1, 300)))[0].shape[1] == 300
