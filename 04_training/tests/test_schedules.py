"""Schedules against those of transformers and torch; the warm-up of ours is one step ahead of theirs."""

import pytest
import schedules
import torch
from flags import UserError
from for_tests import oracle

STEPS, RISE = 200, 10


def rates(make):
    """What `make(optimizer)`, a scheduler, sets for each step, at a learning rate of 0.5."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler, found = make(optimizer), []
    for _ in range(STEPS + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def ours(name, **settings):
    schedule = schedules.SCHEDULES[name](0.5, STEPS, **settings)
    return [schedule(step) for step in range(STEPS + 1)]


def theirs(name):
    optimization = oracle("transformers").optimization
    return rates({
        "constant": lambda o: optimization.get_constant_schedule_with_warmup(o, RISE),
        "linear": lambda o: optimization.get_linear_schedule_with_warmup(o, RISE, STEPS),
        "cosine": lambda o: optimization.get_cosine_with_min_lr_schedule_with_warmup(o, RISE, STEPS, min_lr_rate=0.1),
        "warmup_stable_decay": lambda o: optimization.get_wsd_schedule(o, RISE, 40, STEPS, decay_type="1-sqrt"),
    }[name])


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_equals_that_of_transformers_but_for_the_first_step(name):
    settings = {"decay": 0.2} if name == "warmup_stable_decay" else {}
    found, expected = ours(name, **settings), theirs(name)
    assert found[RISE:] == pytest.approx(expected[RISE:], abs=1e-9), "does the fall begin where the warm-up ends?"
    assert expected[0] == 0 and found[:RISE] == pytest.approx(expected[1 : RISE + 1]), "the first step must not be 0"


def test_equals_that_of_torch_without_warm_up():
    scheduler = torch.optim.lr_scheduler
    assert ours("cosine", warmup=0, final=0.2) == pytest.approx(
        rates(lambda optimizer: scheduler.CosineAnnealingLR(optimizer, STEPS, eta_min=0.1)), abs=1e-9)
    assert ours("linear", warmup=0, final=0.3) == pytest.approx(
        rates(lambda optimizer: scheduler.LinearLR(optimizer, 1.0, 0.3, STEPS)), abs=1e-9)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_ends_at_its_final_share_and_stays_there(name):
    schedule = schedules.SCHEDULES[name](2.0, STEPS, warmup=0.1, final=0.25)
    end = 2.0 if name == "constant" else 0.5
    assert schedule(STEPS) == schedule(STEPS + 50) == pytest.approx(end)
    assert max(map(schedule, range(STEPS))) == schedule(20) == 2.0


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_one_step_is_a_run(name):
    assert schedules.SCHEDULES[name](2.0, 1)(0) == 2.0


def test_refuses_what_is_no_share():
    for name in schedules.SCHEDULES:
        with pytest.raises(UserError, match="warmup -1 must be"):
            schedules.SCHEDULES[name](1.0, STEPS, warmup=-1)
    with pytest.raises(UserError, match="final 3 must be"):
        schedules.cosine(1.0, STEPS, final=3)
    with pytest.raises(UserError, match="decay 0.9"):
        schedules.warmup_stable_decay(1.0, STEPS, warmup=0.2, decay=0.9)
