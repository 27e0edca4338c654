"""Settings of this chapter's tests, and a task that is learned in seconds: of two digits, say the larger."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from char_tokenizer import CharTokenizer
from family import Family
from for_tests import one_thread  # noqa: F401
from gpt import GPT, GPTConfig
from reasoner import PARTS
from scripted_server import serving  # noqa: F401
from self_training import Student
from tasks import FAMILIES


class Larger(Family):
    """`13?`: the larger of two digits from 0 to 3."""

    def ask(self, random, difficulty):
        a, b = random.choice(4, 2, replace=False)
        return f"{a}{b}?"

    def think(self, question):
        yield from ()
        return max(question[:2])


@pytest.fixture
def student_of_larger():
    """A function that makes a Student that says each of the two digits about as often."""
    FAMILIES["larger"] = Larger()
    yield guesser
    del FAMILIES["larger"]


def guesser():
    tokenizer = CharTokenizer("0123?#;")
    torch.manual_seed(0)
    model = GPT(GPTConfig(tokenizer.vocab_size, 32, 8, 2, 2, key_value_head_count=2, window=4, **PARTS))
    optimizer, random = torch.optim.AdamW(model.parameters(), 3e-3), np.random.default_rng(0)
    for _ in range(60):
        questions = [FAMILIES["larger"].ask(random, 0) for _ in range(64)]
        rows = torch.tensor([[*tokenizer.encode(f"{q}#{q[random.integers(2)]}"), tokenizer.end_of_text]
                             for q in questions])
        targets = rows[:, 1:].clone()
        targets[:, :2] = -100
        model(rows[:, :-1], targets)[1].backward()
        optimizer.step()
        optimizer.zero_grad()
    return Student(model.eval(), torch.float32, tokenizer, FAMILIES["larger"], argparse.Namespace(data="larger"),
                   Path("none.pt"), {"difficulty": None})
