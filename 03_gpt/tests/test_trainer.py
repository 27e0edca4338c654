"""The loop, its batches and its schedule; and sampling."""

import copy
import csv
import math
import signal

import logit_filters
import numpy as np
import pytest
import sampling
import torch
import trainer
import training_log
from evaluation import evaluate
from flags import UserError
from gpt import GPT, GPTConfig
from training_bar import duration

TOKENS = np.random.default_rng(0).integers(20, size=500).astype(np.uint16)


def make(dropout=0.0):
    torch.manual_seed(0)
    return GPT(GPTConfig(20, 16, 8, 2, 1, dropout))


def run(model, steps, **settings):
    optimizer = settings.pop("optimizer", None) or trainer.make_optimizer(model, 1e-2)
    batches = settings.pop("batch", trainer.random_batches(TOKENS, 4, 8, seed=1))
    validate = settings.pop("validate", lambda: 0.0)
    return trainer.train(model, batches, optimizer, trainer.warmup_cosine(1e-2, 20), steps, validate, **settings)


def test_batches_depend_on_seed_and_step_only_and_targets_are_one_token_on():
    batch = trainer.random_batches(TOKENS, 4, 8, seed=1)
    ids, targets = batch(5)
    assert ids.shape == targets.shape == (4, 8) and ids.dtype == torch.long
    assert torch.equal(ids[:, 1:], targets[:, :-1]), "labels must be shifted by exactly one"
    assert torch.equal(trainer.random_batches(TOKENS, 4, 8, seed=1)(5)[0], ids)
    for other in (batch(6), trainer.random_batches(TOKENS, 4, 8, seed=2)(5)):
        assert not torch.equal(other[0], ids)


def test_the_smallest_text_has_one_place():
    ids, targets = trainer.random_batches(TOKENS[:9], 2, 8, seed=0)(0)
    assert ids.tolist() == [TOKENS[:8].tolist()] * 2 and targets[0].tolist() == TOKENS[1:9].tolist()


def test_schedule():
    schedule = trainer.warmup_cosine(1.0, 100)
    rates = [schedule(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and max(rates) == pytest.approx(1, abs=0.02) and rates[-1] < 0.01
    assert rates[:5] == sorted(rates[:5]) and rates[5:] == sorted(rates[5:], reverse=True)


def test_evaluate_is_the_mean_over_every_token():
    model = make(dropout=0.5)
    ids = torch.from_numpy(TOKENS[:-1].astype(np.int64))
    total = 0.0
    model.eval()
    for i in range(0, 499, 8):
        logits = model(ids[None, i : i + 8])[0][0]
        targets = torch.from_numpy(TOKENS[i + 1 : i + 9].astype(np.int64))
        total += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
    model.train()
    assert evaluate(model, TOKENS, 4, 8) == pytest.approx(total / 499, abs=1e-5)
    assert model.training and math.isnan(evaluate(model, TOKENS[:1], 4, 8))


def test_micro_batches_change_nothing(monkeypatch):
    weights = []
    for tokens in (10**6, 24):  # all four rows at once; three and one
        monkeypatch.setitem(trainer.MICRO_BATCH, "cpu", tokens)
        model = make()
        run(model, 3, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert (weights[0] - weights[1]).abs().max() < 1e-5


def test_micro_batches_are_as_large_as_is_said():
    model, sizes = make(), []
    model.register_forward_pre_hook(lambda model, inputs: sizes.append(len(inputs[0])))
    run(model, 1, micro_batch=24)
    assert sizes == [3, 1], "24 tokens are three rows of 8"


def test_ctrl_c_saves_and_the_run_goes_on_bit_for_bit():
    straight = make(dropout=0.3)
    expected = run(straight, 20)

    broken, kept = make(dropout=0.3), {}
    optimizer = trainer.make_optimizer(broken, 1e-2)
    batches = trainer.random_batches(TOKENS, 4, 8, seed=1)

    def batch(step):
        if step == 7 and "going on" not in kept:
            signal.raise_signal(signal.SIGINT)
        return batches(step)

    def save(progress, best):
        kept["progress"] = copy.deepcopy(progress)

    assert run(broken, 20, optimizer=optimizer, batch=batch, save=save) is None
    assert kept["progress"]["step"] == len(kept["progress"]["history"]) == 8, "is the begun step finished?"
    kept["going on"] = True
    torch.manual_seed(99)
    history = run(broken, 20, optimizer=optimizer, batch=batch, progress=kept["progress"])
    for row, its_like in zip(history, expected):
        assert {**row, "seconds": 0} == {**its_like, "seconds": 0}
    assert len(history) == len(expected)
    for ours, theirs in zip(broken.parameters(), straight.parameters()):
        assert torch.equal(ours, theirs)


def test_a_loss_that_is_no_number_stops_before_it_reaches_the_weights():
    model, saved = make(), []
    model.norm.weight.data[0] = math.nan
    before = model.token_embedding.weight.clone()
    with pytest.raises(UserError, match="learning_rate"):
        run(model, 20, save=lambda progress, best: saved.append(progress))
    assert torch.equal(model.token_embedding.weight, before)
    assert not saved, "weights that are no numbers would take the place of the last good ones"


def test_a_few_bad_steps_are_skipped(capsys):
    model, batches = make(), trainer.random_batches(TOKENS, 4, 8, seed=1)
    gradient = model.norm.weight.register_hook(lambda gradient: gradient * math.nan if bad else gradient)
    weights, bad = [], False

    def batch(step):
        nonlocal bad
        bad = step in (3, 4, 9)
        weights.append(model.token_embedding.weight.clone())
        return batches(step)

    history = run(model, 12, batch=batch)
    gradient.remove()
    assert capsys.readouterr().out.count("skipped") == 3 and len(history) == 12
    changed = [not torch.equal(a, b) for a, b in zip(weights, weights[1:])]
    assert changed == [True, True, True, False, False, True, True, True, True, False, True]


def test_a_full_disk_does_not_end_the_run(capsys):
    def save(progress, best):
        if progress["step"] < 10:
            raise UserError("can't write a.pt: no space left")
        saved.append((progress["step"], best))

    saved, losses = [], iter([5.0, 4, 3, 4, 5, 2, 1, 3, 3, 3])
    assert run(make(), 20, save=save, validate=lambda: next(losses))
    assert saved == [(10, False), (12, True), (14, True), (16, False), (18, False), (20, False)]
    assert capsys.readouterr().out.count("trying again later") == 4


def test_patience():
    losses = iter([5.0, 4, 3, 4, 5, 2, 1, 3, 3, 3])
    progress = trainer.new_progress()
    history = run(make(), 20, validate=lambda: next(losses), patience=2, progress=progress)
    assert history[-1]["step"] == 10 and progress["finished"] and progress["best_step"] == 6


def test_targets_that_do_not_count_are_not_in_the_mean():
    """In micro-batches with different numbers of targets, too, each target weighs the same."""
    targets = torch.from_numpy(TOKENS[1:33].astype(np.int64)).view(4, 8).clone()
    ids = torch.from_numpy(TOKENS[:32].astype(np.int64)).view(4, 8)
    targets[0, 1:] = -100
    gradients = []
    for rows in (4, 1):
        model = make()
        loss = trainer.add_gradients(model, [ids, targets], rows, torch.float32)
        expected = torch.nn.functional.cross_entropy(model(ids)[0].flatten(0, 1), targets.flatten())
        assert loss == pytest.approx(expected.item(), abs=1e-5)
        gradients.append(model.token_embedding.weight.grad)
    assert (gradients[0] - gradients[1]).abs().max() < 1e-6


def test_decay_acts_on_matrices_only():
    matrices, others = trainer.make_optimizer(make(), 1e-3).param_groups
    assert all(parameter.dim() >= 2 for parameter in matrices["params"]) and matrices["weight_decay"] > 0
    assert all(parameter.dim() == 1 for parameter in others["params"]) and others["weight_decay"] == 0


def test_log_and_loss_curve(tmp_path):
    history = run(make(), 20)
    training_log.draw_loss_curve(history, ("knowing nothing", 3.2), tmp_path / "a.png", "title")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    training_log.write_log(history, tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 21))
    assert [float(row["training_loss"]) for row in rows] == [row["training_loss"] for row in history]
    assert [bool(row["validation_loss"]) for row in rows] == [False, True] * 10


def test_duration():
    for seconds, words in ((5, "5 seconds"), (150, "2 minutes"), (4000, "67 minutes"), (9e5, "10 days")):
        assert duration(seconds) == words


def test_top_k_and_top_p():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert logit_filters.keep_top_k(logits, 2).isinf().tolist() == [[False, False, True, True]]
    assert not logit_filters.keep_top_k(logits, 9).isinf().any()
    for p, kept in ((0.4, 1), (0.5, 1), (0.6, 2), (0.96, 4), (1.0, 4)):
        assert (~logit_filters.keep_top_p(logits, p).isinf()).sum() == kept, f"top_p {p}"


def test_generate():
    model = make()
    prompt = torch.tensor([[1, 2, 3], [4, 5, 6]])
    greedy = sampling.generate(model, prompt, 20, temperature=0)
    assert greedy.shape == (2, 23) and torch.equal(greedy[:, :3], prompt)
    expected = prompt
    for _ in range(5):  # up to block_size; what is forgotten beyond it: test_sampling.py
        logits = model(expected)[0]
        expected = torch.cat([expected, logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(greedy[:, :8], expected)
    torch.manual_seed(3)
    once = sampling.generate(model, prompt, 20, temperature=1.5, top_k=5, top_p=0.9)
    torch.manual_seed(3)
    assert torch.equal(once, sampling.generate(model, prompt, 20, temperature=1.5, top_k=5, top_p=0.9))
    assert torch.equal(sampling.generate(model, prompt, 20, top_k=1), greedy)


def test_sampling_draws_what_the_model_thinks():
    model = make()
    prompt = torch.zeros(4000, 1, dtype=torch.long)
    torch.manual_seed(0)
    drawn = sampling.generate(model, prompt, 1)[:, 1].bincount(minlength=20) / 4000
    expected = model(prompt[:1])[0][0, -1].softmax(-1)
    assert (drawn - expected).abs().max() < 0.02


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 57, -1])
def test_one_number_that_is_none_is_seen(wrong, place):
    weight = torch.randn(20, 30)
    assert trainer.finite(weight) and trainer.finite(weight[:0]), "what has no numbers has no wrong ones"
    weight.view(-1)[place] = wrong
    assert not trainer.finite(weight)
