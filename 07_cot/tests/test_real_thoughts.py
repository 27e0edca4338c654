"""Thoughts on demand for other models than this chapter's: pieces of text as tokens, and a small model's weights."""

import os
import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import asdict

import pytest
import torch
from answering import answer_row
from family import encoded, write_steps
from for_tests import ROOT, refuse
from gpt import FAMILIES as PARTS
from gpt import GPT, GPTConfig
from pretrained import export
from problem_batches import new_tokenizer
from router import Base, Route, Writer
from sampling import Sampling
from tasks import FAMILIES, draw
from thought_distillation import own_writing
from thought_plan import BASE, Plan, chain_row, writing
from thoughts import plan_for
from tokenizer import BPETokenizer

FEW = ("--problems", 20, "--base_steps", 3, "--rank", 4, "--answer_steps", 3, "--chains", 6, "--sequence_steps", 10,
       "--on_policy_steps", 2, "--routed", 4, "--hardest", 2)


def joining():
    """A tokenizer that has learned to join across boundaries, where it can."""
    tokenizer = BPETokenizer()
    tokenizer.train(" ".join(f"{each.question}{each.chain}" for each in draw("words", "train", 200, 1, 3)), 500)
    return tokenizer


def small(tokenizer):
    torch.manual_seed(0)
    return GPT(GPTConfig(tokenizer.vocab_size, 32, 512, 4, 2, **PARTS["llama"])).eval()


# ---- tokens ----


@pytest.mark.parametrize("name", list(FAMILIES))
def test_characters_are_as_they_were(name):
    tokenizer = new_tokenizer()
    for problem in draw(name, "train", 20, 1):
        text, end = problem.question + problem.chain, tokenizer.end_of_text
        assert encoded(text, tokenizer) == tokenizer.encode(text)
        ids, targets = chain_row(problem.question, problem.chain, tokenizer)
        assert [*ids, targets[-1]] == [*tokenizer.encode(text), end]
        assert targets.count(-100) == len(problem.question) - 1


def test_a_thought_changes_no_token_before_it():
    tokenizer = joining()
    joined = 0
    for problem in draw("words", "train", 50, 2, 3):
        whole = encoded(problem.question + problem.chain, tokenizer)
        joined += tokenizer.encode(problem.question + problem.chain) != whole
        assert tokenizer.decode(whole) == problem.question + problem.chain
        for count in range(len(problem.steps) + 1):
            before = encoded(problem.question + write_steps(problem.steps[:count]), tokenizer)
            assert whole[: len(before)] == before
            assert tokenizer.decode(before[-1:]) == (";" if count else "?"), "the boundary must be a token of its own"
    assert joined, "the test needs a tokenizer that joins across boundaries"


def test_answers_are_learned_at_boundaries_or_behind_the_mark():
    tokenizer, (problem,) = joining(), draw("words", "train", 1, 3, 3)
    first = encoded(problem.answer, tokenizer)[0]
    ids, targets = answer_row(problem, 2, tokenizer, plan_for("smollm2").mark)
    learned = [at for at, target in enumerate(targets) if target != -100]
    assert tokenizer.decode(ids[: learned[0] + 1]) == f"{problem.question}{write_steps(problem.steps[:2])}#"
    assert targets[learned[0]] == first and len(learned) == len(encoded(problem.answer, tokenizer)) + 1
    ids, targets = answer_row(problem, 2, tokenizer)
    learned = [at for at, target in enumerate(targets) if target != -100]
    assert [tokenizer.decode([ids[at]]) for at in learned[:3]] == ["?", ";", ";"]
    assert {targets[at] for at in learned[:3]} == {first} and targets[-1] == tokenizer.end_of_text


def test_tokens_are_counted_not_characters():
    tokenizer, (problem,) = joining(), draw("words", "train", 1, 3, 3)
    base = Base(small(tokenizer), tokenizer)
    assert base.count(problem.question) == len(encoded(problem.question, tokenizer)) < len(problem.question)


def test_a_writers_thought_ends_at_its_boundary():
    """Whatever an untrained one says, special tokens among it, can be read again."""
    tokenizer = joining()
    writer = Writer(small(tokenizer), tokenizer)
    routes = [Route(each.question) for each in draw("words", "train", 8, 3, 2)]
    for words, tokens in writer.next_thoughts(routes, longest=9):
        assert 1 <= tokens <= 9 and (words is None or ";" not in words)
    assert encoded("<|endoftext|>;", tokenizer)
    ids, targets = own_writing(small(tokenizer), tokenizer, draw("words", "train", 8, 3, 2), 1, torch.float32, 3,
                               Sampling(1.0))(0)
    assert len(ids) == 3 and (targets != -100).any()


def test_a_tool_writes_results_for_other_models():
    tokenizer, plan = joining(), plan_for("smollm2")
    question, said = (encoded(text, tokenizer) for text in ("Bob has 58 pens. Bob loses 17. How many has Bob?",
                                                            "Bob 58-17="))
    logits = torch.randn(1, tokenizer.vocab_size)
    steered = writing(plan, tokenizer).looking_back(logits, torch.tensor([question + said]), len(said))
    assert steered.argmax() == encoded("41", tokenizer)[0] and steered.isneginf().sum() == tokenizer.vocab_size - 1
    free = writing(plan, tokenizer).looking_back(logits, torch.tensor([question + said[:-1]]), len(said) - 1)
    assert torch.equal(free, logits)
    for other in (Plan(data="words"), plan_for("smollm2", data="addition")):
        assert writing(other, tokenizer) == Sampling(0.0), "this chapter's own models, and paper sums, have no tool"


# ---- plans ----


def test_pieces_of_other_models_have_places_of_their_own():
    own, real = Plan(), plan_for("smollm2")
    assert plan_for() == plan_for("untrained", data="arithmetic") == own
    assert (real.data, real.hardest, plan_for("smollm2", data="addition").data) == ("words", 3, "addition")
    same = Plan(load_model="smollm2")
    for piece in ("base", "answers", "tiny", "router"):
        assert len({each.path(piece, 1) for each in (own, same, Plan(load_model="gpt2"))}) == 3
    assert same.path("base", 1) != Plan(load_model="smollm2", rank=4).path("base", 1), "its base has LoRA, too"


def test_this_chapters_own_pieces_stay_where_they_are():
    """Checkpoints that were there before -l was are not to be trained again."""
    numbers = [value for name, value in asdict(Plan()).items() if name != "load_model"]
    key = zlib.crc32(repr([*numbers, BASE, None]).encode())
    assert Plan().path("router", 1337).name == f"07_thoughts_arithmetic_router_{key:08x}_1337.pt"


# ---- the scripts, from weights to a route ----


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    root = tmp_path_factory.mktemp("copy")
    for folder in ("checkpoints", "data", "01_tokenizer", "02_attention", "03_gpt", "04_training", "07_cot"):
        (root / folder).mkdir()
        for path in (ROOT / folder).glob("*.py"):
            shutil.copy(path, root / folder)
    tokenizer = joining()
    export(small(tokenizer), tokenizer, root / "weights")
    return root


def ran(root, *words):
    process = subprocess.run([sys.executable, *map(str, words)], cwd=root, capture_output=True, text=True, timeout=300,
                             env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


ASKING = """
import runpy, sys
sys.path[:0] = ["07_cot"]
import thought_plan
few = sys.argv[1:]
thought_plan.REAL_NUMBERS |= {name[2:]: int(value) for name, value in zip(few[::2], few[1::2])}
sys.argv = ["infer.py", "Bob has 58 pens. Bob loses 17. How many has Bob?", "--route", "-l", "weights"]
runpy.run_path("07_cot/infer.py", run_name="__main__")
"""


@pytest.mark.slow
def test_weights_in_a_folder_get_all_pieces(copied):
    out = ran(copied, "07_cot/thoughts.py", "-l", "weights", *FEW)
    for piece in ("base", "answers", "tiny", "first", "router"):
        assert f"07_thoughts_words_{piece}" in out, piece
    assert re.search(r"\n\d+\.\d% of its teacher's parameters\n", out)
    again = ran(copied, "07_cot/thoughts.py", "-l", "weights", *FEW)
    assert "training" not in again and again.count(".pt") == 4
    out = ran(copied, "-c", ASKING, *FEW)
    assert "training" not in out, "the defaults of -l are not those of thoughts.py"
    assert "\nBob has 58 pens. Bob loses 17. How many has Bob?  (" in out and "\n0 thoughts: 0." in out
    assert re.search(r"\nanswer: .*\(.*\); \d+ tokens written, \d+ read\n", out, re.DOTALL)
    curve = ("07_cot/router_curve.py", "-l", "weights", *FEW, "--seeds", 1337, "--limit", 2, "-o", "router.png")
    out = ran(copied, *curve)
    assert "weights: words, difficulties up to 2" in out and "\n| 1337 | " in out and "\n| 2 | 2 | " in out
    out = ran(copied, *curve, "--distillation")
    assert "\n| teacher | " in out and "\n| both steps | " in out


@pytest.mark.slow
@pytest.mark.parametrize(("words", "cure"), [
    (["-l", "nowhere.pt"], "no checkpoint nowhere.pt"), (["-l", "smollm2", "--layers", "3"], "leave it out"),
    (["-l", "smollm2", "--hardest", "99"], "must be from 1 to 12"),
])
def test_mistakes(words, cure):
    assert cure in refuse("07_cot/thoughts.py", *words)
