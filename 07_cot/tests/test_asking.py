"""infer.py with other models than this chapter's reasoners: what it says of them, and which flags it refuses."""

import json
import re
from dataclasses import asdict

import checkpoint
import pytest
import torch
from for_tests import refuse, shared, succeed
from gpt import GPT, GPTConfig
from tokenizer import BPETokenizer

INFER = "07_cot/infer.py"


@pytest.fixture
def real_data(monkeypatch):
    monkeypatch.setenv("SHARED_DATA", str(shared("gsm8k/test.jsonl").parents[1]))


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """A checkpoint as 03 and 04 make them, of a model that knows nothing."""
    torch.manual_seed(0)
    tokenizer, path = BPETokenizer(), tmp_path_factory.mktemp("asking") / "talker.pt"
    model = GPT(GPTConfig(tokenizer.vocab_size, 16, 2048, 2, 1))
    checkpoint.save(path, "gpt", config=asdict(model.config), model=model.state_dict(), tokenizer=tokenizer.state(),
                    run={}, progress={"finished": True})
    return path


@pytest.mark.slow
def test_a_question_in_plain_words(talker):
    out = succeed(INFER, "How many legs have 3 cats?", "-l", talker, "--samples", 3, "-n", 8)
    assert len(re.findall(r"^---- reply \d of 3, \d+ tokens: ", out, re.MULTILINE)) == 3
    assert re.search(r"^---- vote: ", out, re.MULTILINE)


@pytest.mark.slow
def test_an_exam_whose_replies_are_kept(talker, tmp_path, real_data):
    words = "--eval", "gsm8k", "-l", talker, "--limit", 2, "--samples", 2, "--runs", 2, "-n", 4, "--results"
    out = succeed(INFER, *words, tmp_path / "r.jsonl")
    assert "mean and mean absolute deviation of 2 runs: pass@1 " in out and "maj@2" in out
    lines = (tmp_path / "r.jsonl").read_text(encoding="utf-8")
    assert len(lines.splitlines()) == 1 + 2 * 2 * 2 and json.loads(lines.splitlines()[1])["gold"]
    succeed(INFER, *words, tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_text(encoding="utf-8") == lines, "what was asked is not asked again"


@pytest.mark.slow
def test_letters(talker, tmp_path, real_data):
    words = "--eval", "mmlu:formal_logic", "-l", talker, "--limit", 2, "--prompting", "letters", "--shots", 2
    assert "2 replies, 100.0% with an answer" in succeed(INFER, *words, "--results", tmp_path / "r.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize(("words", "cure"), [
    (["--eval", "gsm8k", "--step_beams", "2"], "--step_beams is for this chapter's own"),
    (["--eval", "gsm8k", "--endpoint", "nowhere"], "an endpoint is an address"),
    (["1+1?", "--endpoint", "http://127.0.0.1:9", "-l", "smollm2"], "give one of them"),
    (["1+1?", "--judge", "http://127.0.0.1:9", "--endpoint", "http://127.0.0.1:9"], "add --eval"),
    (["1+1?", "--endpoint", "http://127.0.0.1:9", "--calculator"], "--calculator is for this chapter's own"),
])
def test_mistakes(words, cure):
    assert cure in refuse(INFER, *words)


@pytest.mark.slow
def test_mistakes_with_a_model(talker):
    assert "no exam 'algebra'" in refuse(INFER, "--eval", "algebra", "-l", talker)
    assert "no thinking mode" in refuse(INFER, "1+1?", "-l", talker, "--thinking", "on")
    assert "questions with choices" in refuse(INFER, "1+1?", "-l", talker, "--prompting", "letters")
