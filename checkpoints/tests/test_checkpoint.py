"""Checkpoints are whole or not there, run no code, and say what is wrong with them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import checkpoint
import pytest
import torch
from atomic import replacing
from flags import UserError


def test_save_and_load(tmp_path):
    contents = {
        "model": {"weight": torch.randn(3, 2)}, "config": {"size": 3}, "tokenizer": {"merges": [[1, 2]]}, "step": 5,
    }
    checkpoint.save(tmp_path / "new" / "folder" / "a.pt", "test", **contents)
    loaded = checkpoint.load(tmp_path / "new" / "folder" / "a.pt", "test")
    assert torch.equal(loaded["model"]["weight"], contents["model"]["weight"])
    assert loaded["tokenizer"] == contents["tokenizer"] and loaded["step"] == 5


def test_broken_and_foreign_files(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoint.load(path, "test")
    checkpoint.save(path, "test", model={"weight": torch.randn(100)})
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"not a checkpoint at all"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="damaged or no checkpoint"):
            checkpoint.load(path, "test")
    checkpoint.save(path, "bert", model={})
    with pytest.raises(UserError, match="of the kind 'bert', not 'gpt'"):
        checkpoint.load(path, "gpt")
    torch.save({"format": "llm-from-scratch checkpoint 1", "model": {}}, path)
    with pytest.raises(UserError, match="an older version"):
        checkpoint.load(path, "test")
    torch.save({"weight": torch.randn(3)}, path)
    with pytest.raises(UserError, match="no checkpoint of this course"):
        checkpoint.load(path, "test")


def test_loading_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"format": checkpoint.FORMAT, "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError):
        checkpoint.load(tmp_path / "evil.pt", "test")
    assert not (tmp_path / "ran").exists()


def test_what_is_missing_is_trained_once_and_what_was_stopped_goes_on(tmp_path, capsys):
    path, calls = tmp_path / "a.pt", []

    def train(words):
        calls.append(words)
        checkpoint.save(path, "test", progress={"finished": len(calls) > 1, "step": 20}, run={"steps": 1000})
        return [] if len(calls) > 1 else None  # the first time Ctrl-C stops it

    with pytest.raises(SystemExit, match="130"):
        checkpoint.ensured(path, train, "test")
    checkpoint.tell_unfinished(checkpoint.load(path, "test"), path)
    assert "a.pt yet: training it first" in (out := capsys.readouterr().out)
    assert "a.pt is unfinished: step 20 of 1,000" in out
    assert checkpoint.ensured(path, train) == path and len(calls) == 1, "without a kind it is taken as it is"
    assert checkpoint.ensured(path, train, "other", "test") == checkpoint.ensured(path, train, "test") == path
    assert calls == [["-s", str(path)], ["-l", str(path), "-s", str(path)]], "what was stopped must go on, once"
    assert "no finished" in capsys.readouterr().out
    checkpoint.save(path, "test")
    assert checkpoint.is_finished(path, "test"), "one that is written only at the end knows no progress"


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("old", encoding="utf-8")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as beside:
        beside.write_text("half", encoding="utf-8")
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="missing hardware: this system has no /dev/full")
def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "with_name", lambda path, name: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok: None)
    with pytest.raises(UserError, match="can't write"):
        checkpoint.save(tmp_path / "a.pt", "test", model={"weight": torch.randn(100_000)})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: Windows has no SIGKILL")
def test_a_kill_while_saving_leaves_the_old_or_the_new_one(tmp_path):
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import checkpoint, torch\n"
        "for i in range(10**9):\n"
        f"    checkpoint.save({str(tmp_path / 'a.pt')!r}, 'test', step=i, model={{'w': torch.full((200_000,), i)}})"
    )
    for delay in (0.05, 0.13, 0.4):
        process = subprocess.Popen([sys.executable, "-c", program])
        while not (tmp_path / "a.pt").exists():
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        loaded = checkpoint.load(tmp_path / "a.pt", "test")
        assert (loaded["model"]["w"] == loaded["step"]).all()
        (tmp_path / "a.pt").unlink()
