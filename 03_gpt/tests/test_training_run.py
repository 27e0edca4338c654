"""What surrounds a run: what it must not take the place of, and what it says of what it kept."""

import checkpoint
import pytest
import training_run
from flags import UserError
from gpt import GPT, GPTConfig


def test_what_must_not_be_replaced(tmp_path):
    save = tmp_path / "a.pt"
    (tmp_path / "a.csv").write_text("question,answer\n", encoding="utf-8")
    with pytest.raises(UserError, match="a.csv is there, and no log of a run"):
        training_run.check_place(save, None)
    (tmp_path / "a.csv").write_text("step,seconds\n", encoding="utf-8")
    training_run.check_place(save, None)
    checkpoint.save(save, "gpt", progress={"step": 7, "finished": False})
    with pytest.raises(UserError, match="holds an unfinished run, after step 7: go on with -l"):
        training_run.check_place(save, tmp_path / "other.pt")
    training_run.check_place(save, save)
    checkpoint.save(save, "gpt", progress={"step": 9, "finished": True})
    training_run.check_place(save, None)


@pytest.mark.parametrize("full", [False, True])
def test_saved_is_said_only_of_what_was(monkeypatch, tmp_path, capsys, full):
    """Ctrl-C after a step that was saved, and after one for which the disk had no room."""
    def stopped(model, batch, optimizer, schedule, steps, validate, save, *_, **__):
        if not full:
            save({"step": 3}, False)

    monkeypatch.setattr(training_run.trainer, "train", stopped)
    monkeypatch.setattr(training_run.checkpoint, "save", lambda *_, **__: None)
    model = GPT(GPTConfig(9, 8, 8, 2, 1))
    stateful = type("Stateful", (), {"state_dict": dict, "state": dict})()
    assert training_run.train_and_keep("gpt", model, stateful, stateful, None, None, lambda: 2.0,
                                       {"steps": 9, "seed": 1}, "title", save=tmp_path / "a.pt") is None
    said = capsys.readouterr().out
    assert ("goes on after step 3" in said) == (not full) and ("saved" in said) == (not full)
