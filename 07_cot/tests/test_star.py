"""STaR: what is kept of a round, that it learns, and that its script goes on."""

import signal

import checkpoint
import pytest
import star
import torch
import trainer
from chains import Chain
from for_tests import refuse, succeed
from objectives import ChainLoss
from optimizers import make_optimizer
from schedules import constant
from self_training import Enough, Watch


def rounds_of(student, *words):
    student.args = star.arguments().parse(["-d", "larger", "--questions", "16", *map(str, words)])
    return star.Rounds(student, Watch(student, student.problems("train", 100, 0)))


def test_right_chains_are_kept_once():
    chains = [Chain(text) for text in ("#3", "#1", "#3", "1;#3", "2;#3")]
    rewards = [1, 0, 1, 1, 1]
    assert [chain.text for chain in star.right_chains(chains, rewards, 9)] == ["#3", "1;#3", "2;#3"]
    assert [chain.text for chain in star.right_chains(chains, rewards, 2)] == ["#3", "1;#3"]
    assert star.right_chains(chains, [0] * 5, 2) == []


def test_only_right_chains_are_learned(monkeypatch, student_of_larger):
    student = student_of_larger()
    rounds = rounds_of(student)
    ids, targets, _ = rounds.batch(0)
    texts = [student.tokenizer.decode(row[:5].tolist()) for row in ids]
    assert len(texts) == star.NUMBERS["batch_size"]
    assert all(text[4] == max(text[:2]) for text in texts), "a wrong chain is among them"
    assert (targets[:, :2] == -100).all() and (targets[:, 2:] != -100).all(), "the question is not learned"
    examples = rounds.state["examples"]
    rounds.batch(1)
    assert rounds.state["examples"] is examples, "a round is for several steps"
    assert rounds.state["kept"] == len(examples) <= rounds.state["drawn"]
    rounds.batch(star.CHOICES["round_steps"])
    assert rounds.state["examples"] is not examples
    monkeypatch.setattr(student, "reward", lambda question, chain: 0.0)
    with pytest.raises(Enough, match="no signal"):
        rounds.batch(0)


@pytest.mark.slow
def test_a_model_that_guesses_learns(student_of_larger):
    student = student_of_larger()
    rounds = rounds_of(student, "--round_steps", 5)
    before, _ = student.share_right(rounds.watch.problems)
    loss_of = ChainLoss(student.model)
    trainer.train(loss_of, rounds.batch, make_optimizer(loss_of, "adamw", 3e-3, 0.0), constant(3e-3, 50), 50,
                  rounds.watch.validate, on_row=rounds.watch.look)
    after = rounds.watch.points[-1]["right"]
    assert before < 0.75 and after > 0.9, f"{before:.2f} -> {after:.2f}"


@pytest.fixture(scope="module")
def reasoner(tmp_path_factory):
    path = tmp_path_factory.mktemp("star") / "small.pt"
    succeed("07_cot/train.py", "-d", "arithmetic", "--style", "chain", "--difficulty", 1, "--problems", 100, "-s", path,
            32, 32, 32, 1e-2, 40, 2, 2)
    return path


WORDS = ("--questions", 8, "--round_steps", 4, 16, 1e-4, 10)


@pytest.mark.slow
def test_the_script(reasoner, tmp_path):
    out = succeed("07_cot/star.py", "--reasoner", reasoner, "-s", tmp_path / "new.pt", *WORDS, cwd=tmp_path)
    assert "chains were learned from" in out and "before" in out
    assert "kept" in refuse("07_cot/star.py", "--reasoner", reasoner, "--kept", 0)


@pytest.mark.slow
def test_an_unfinished_run_goes_on_as_if_nothing_had_been(reasoner, tmp_path, monkeypatch):
    def train(save, *words):
        words = ("--reasoner", reasoner, "-s", save, *words, *WORDS)
        return star.train_command(star.arguments().parse(list(map(str, words))))

    whole = train(tmp_path / "whole.pt")
    plain = star.Rounds.batch

    def stopped(self, step):
        if step == 5:
            signal.raise_signal(signal.SIGINT)
        return plain(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(star.Rounds, "batch", stopped)
        assert train(tmp_path / "parts.pt") is None
    parts = train(tmp_path / "parts.pt", "-l", tmp_path / "parts.pt")
    one, other = (checkpoint.load(tmp_path / name, "gpt")["model"] for name in ("whole.pt", "parts.pt"))
    assert all(torch.equal(w, other[name]) for name, w in one.items())
    assert whole["kept"] == parts["kept"]
