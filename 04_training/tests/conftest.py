"""Settings of this chapter's tests, and what those of further training begin with."""

import json

import checkpoint
import pytest
import torch
from for_tests import one_thread  # noqa: F401
from gpt import FAMILIES, GPT, GPTConfig
from tokenizer import BPETokenizer

ANSWERS = {"red": "a colour.", "dog": "an animal.", "oak": "a tree.", "ten": "a number."}


@pytest.fixture(scope="session")
def talks(tmp_path_factory):
    """A file of preferences, whose better answers are conversations, too: four questions, ten times."""
    path = tmp_path_factory.mktemp("talks") / "talks.jsonl"
    worse = list(ANSWERS.values())[1:] + ["a colour."]
    lines = [json.dumps({"prompt": f"What is {name}?", "chosen": answer, "rejected": other})
             for (name, answer), other in zip(ANSWERS.items(), worse)]
    path.write_text("\n".join(lines * 10), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The checkpoint of a small model that has learned nothing yet, with a byte for a token."""
    torch.manual_seed(0)
    tokenizer = BPETokenizer()
    model = GPT(GPTConfig(tokenizer.vocab_size, 32, 256, 4, 2, **FAMILIES["llama"]))
    path = tmp_path_factory.mktemp("base") / "base.pt"
    checkpoint.save(path, "gpt", model=model.state_dict(), config=vars(model.config), tokenizer=tokenizer.state(),
                    run={"steps": 1}, progress={"finished": True, "step": 1}, optimizer={})
    return path
