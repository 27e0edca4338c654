"""What is said of answers: the columns of judge.py."""

import docs_task
import judge
import pytest
from for_tests import refuse, succeed


class Parrot:
    """Stands for a model in `assess`, which only asks `answers` and `answer_loss` about it."""

    class config:
        block_size = 512


def test_the_columns_of_a_model_that_is_always_right(monkeypatch):
    pairs = docs_task.pairs("test")[:20]
    monkeypatch.setattr(judge, "answers", lambda *_: [(pair.answer, True) for pair in pairs])
    monkeypatch.setattr(judge, "answer_loss", lambda *_: 0.5)
    monkeypatch.setattr(judge, "examples", lambda *_: [])
    numbers, rewards, _ = judge.assess(pairs, Parrot, None, None)
    assert rewards == [1] * 20
    assert numbers["exact"] == numbers["reward"] == numbers["ends"] == 1 and numbers["loss"] == 0.5
    assert numbers["words"] == pytest.approx(sum(len(pair.answer.split()) for pair in pairs) / 20)
    assert judge.row("all right", numbers).split()[2:6] == ["0.500", "100.0%", "1.000", f"{numbers['words']:.1f}"]


@pytest.mark.slow
def test_a_quick_look_from_the_command_line(base):
    out = succeed("04_training/judge.py", base, base, "--limit", 3, "--show", 1)
    assert "3 questions of the test split" in out and out.count("<- base.pt") == 1 and "<- the right answer" in out
    first, one, same = out.splitlines()[-3:]
    assert first.startswith("first sentence") and one.startswith("base.pt")
    assert same.split()[4] == "50.0%", "a model ties with itself"
    assert "must be at least 1" in refuse("04_training/judge.py", base, "--limit", 0)
    assert "no checkpoint nothing.pt" in refuse("04_training/judge.py", "nothing.pt")
