"""What a chain's tokens weigh, how problems become batches, and that both kinds of model learn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from family import Problem
from gpt import GPT, GPTConfig
from multi_token import MultiTokenPrediction
from objectives import ANSWER, PLAIN, RESULT, ChainLoss, kinds_of
from problem_batches import example, new_tokenizer, padded, problem_batches, slip
from reasoner import PARTS
from tasks import FAMILIES

PROBLEM = Problem("3*9+6?", ("3*9=7", "7+6=3"), "3")


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer()


def small(tokenizer, seed=0):
    torch.manual_seed(seed)
    parts = PARTS | {"key_value_head_count": 2, "window": 4, "window_layers": 1}
    return GPT(GPTConfig(tokenizer.vocab_size, 16, 64, 2, 2, **parts))


def test_kinds():
    assert kinds_of("3*9=7;#7") == [PLAIN] * 4 + [RESULT] * 2 + [PLAIN, ANSWER, ANSWER]
    assert kinds_of("#12") == [PLAIN, ANSWER, ANSWER, ANSWER]


def test_only_what_the_model_writes_is_a_target(tokenizer):
    other = Problem("1+1?", ("1+1=2",), "2")
    ids, targets, kinds = padded([example(each, "chain", tokenizer) for each in (PROBLEM, other)])
    for row, problem in enumerate((PROBLEM, other)):
        counted = targets[row] != -100
        assert tokenizer.decode(targets[row][counted][:-1].tolist()) == problem.chain
        assert targets[row][counted][-1] == tokenizer.end_of_text
        assert counted.nonzero()[0, 0] == len(problem.question) - 1, "are targets one token on?"
        assert tokenizer.decode(ids[row, : len(problem.question)].tolist()) == problem.question
        assert kinds[row][counted].tolist() == kinds_of(problem.chain)
    direct = padded([example(PROBLEM, "direct", tokenizer)])[1]
    assert tokenizer.decode(direct[direct != -100][:-1].tolist()) == "#3"


def test_the_loss_is_a_weighted_mean(tokenizer):
    model = small(tokenizer)
    ids, targets, kinds = padded([example(PROBLEM, "chain", tokenizer)])
    logits, _ = model(ids)
    each = F.cross_entropy(logits[0], targets[0], reduction="none", ignore_index=-100)
    weights = torch.tensor([1.0, 3.0, 5.0])[kinds[0]] * (targets[0] != -100)
    _, loss = ChainLoss(model, 3.0, 5.0)(ids, targets, kinds)
    assert torch.allclose(loss, (weights * each).sum() / weights.sum(), atol=1e-6)
    _, plain = model(ids, targets)
    assert torch.allclose(ChainLoss(model)(ids, targets, kinds)[1], plain, atol=1e-6)


def test_the_second_head_is_multi_token_prediction(tokenizer):
    model = small(tokenizer)
    ids, targets, kinds = padded([example(PROBLEM, "chain", tokenizer)])
    torch.manual_seed(1)
    ours = ChainLoss(model, second_head=0.3)
    torch.manual_seed(1)
    theirs = MultiTokenPrediction(model, 0.3)
    assert torch.allclose(ours(ids, targets, kinds)[1], theirs(ids, targets)[1], atol=1e-6)
    assert ours.beside().keys() == {f"model.{name}" for name in theirs.beside()}


def test_a_batch_has_as_many_tokens_for_both_styles(tokenizer):
    problems = [FAMILIES["arithmetic"].solve(f"{a}+{b}*{c}?") for a in range(10) for b in range(10) for c in range(10)]
    sizes = {}
    for style in ("chain", "direct"):
        examples = [example(each, style, tokenizer) for each in problems]
        batch = problem_batches(examples, 600, seed=1)
        ids, targets, _ = batch(0)
        sizes[style] = targets.numel()
        assert 500 < sizes[style] <= 600 and torch.equal(batch(0)[0], ids)
        count = len(ids)
        seen = torch.cat([batch(step)[0] for step in range(1000 // count)])
        assert len(seen.unique(dim=0)) == len(seen), "all come once before any comes again"


def test_slips_are_not_learned_and_are_taken_back(tokenizer):
    random = np.random.default_rng(0)
    question, written, kinds = example(PROBLEM, "chain", tokenizer, slips=1.0, random=random)
    text = tokenizer.decode(written[:-1])
    steps = text.partition("#")[0].split(";")
    assert steps[1] == steps[4] == "wait" and (steps[2], steps[5]) == PROBLEM.steps
    assert steps[0] != steps[2] and steps[3] != steps[5]
    learned = "".join(character for character, kind in zip(text, kinds) if kind >= 0)
    assert learned == "wait;3*9=7;wait;7+6=3;#3" and len(kinds) == len(written)
    assert FAMILIES["arithmetic"].judge(PROBLEM.question, steps[:-1]) == ([True] * 6, "3")
    assert slip("K lies", ["K lies", "L true"], random) == "L true"


@pytest.mark.parametrize("style", ["chain", "direct"])
def test_a_few_problems_are_learned_by_heart(tokenizer, style):
    problems = [FAMILIES["arithmetic"].solve(f"{a}*{b}+1?") for a in range(3, 6) for b in range(3, 6)]
    loss_of, parts = ChainLoss(small(tokenizer)), padded([example(each, style, tokenizer) for each in problems])
    optimizer = torch.optim.AdamW(loss_of.parameters(), lr=1e-2)
    for _ in range(150):
        loss = loss_of(*parts)[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
