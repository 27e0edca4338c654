"""LoRA makes the base answer instead of think: at once, or with thoughts in its context.

Shapes: B texts, T tokens.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import checkpoint
from family import write_steps
from fine_tuning import mark, with_added
from gpt import GPT, GPTConfig
from lm_model import placed
from lora import Peft, added_state, attach
from thinking_base import ensure_base
from thought_plan import (
    HELD_OUT,
    by_level,
    ensured,
    even_batches,
    for_training,
    keep_training,
    row_of,
    unfinished,
)
from tokenizer import from_state

ANSWERS = {"learning_rate": 5e-3, "tokens": 2048}
REMAINING = 4  # steps that may be missing where answers are learned; and all of them, behind the question


def answer_row(problem, count, tokenizer):
    """(ids, targets) of a question, its first `count` steps, and the answer, which is what is learned.

    What is said first is learned behind the question and behind each of the last steps, too: one text teaches to answer
    with any number of thoughts. There is no # before the answer. So it comes from the very state that knows what is
    ahead, and that the router reads.
    """
    said = [*tokenizer.encode(problem.answer), tokenizer.end_of_text]
    ids, targets = row_of(tokenizer.encode(problem.question + write_steps(problem.steps[:count])), said)
    for earlier in {0, *range(max(0, len(problem.steps) - REMAINING), count)} - {count}:
        targets[len(problem.question + write_steps(problem.steps[:earlier])) - 1] = said[0]
    return ids, targets


def ensure_answers(plan, seed, args):
    """The path of what LoRA adds to the base, so that it answers, whatever thoughts stand behind the question."""
    path, base = plan.path("answers", seed, ANSWERS), ensure_base(plan, args)
    return ensured(path, "adapters", lambda: train_answers(plan, seed, args, path, base))


def train_answers(plan, seed, args, path, base):
    torch.manual_seed(seed)
    peft, loaded = Peft("lora", plan.rank, alpha=2.0 * plan.rank), unfinished(path, "adapters")
    whole = checkpoint.load(base, "gpt")
    tokenizer = from_state(whole["tokenizer"])
    if loaded:
        model = with_added(loaded, path)
    else:
        model = GPT(GPTConfig(**whole["config"]))
        model.load_state_dict(whole["model"])
        attach(model, peft)
    model, dtype = placed(model, args)
    random = np.random.default_rng(seed)
    train = [answer_row(each, context(len(each.steps), random), tokenizer)
             for each in for_training(plan, plan.problems, seed)]
    held_out = [answer_row(each, len(each.steps), tokenizer)
                for level in by_level(plan, "validation", HELD_OUT, seed) for each in level]
    run = {"data": plan.data, "piece": "answers", "seed": seed, "steps": plan.answer_steps, "rank": plan.rank,
           **ANSWERS}
    return keep_training(
        "adapters", model, tokenizer, model, even_batches(train, ANSWERS["tokens"], seed), held_out,
        ANSWERS | {"weight_decay": 0.0}, run, path, loaded, dtype,
        {"model": lambda: added_state(model), "peft": lambda: asdict(peft), "base": lambda: base.name,
         "base_mark": lambda: mark(model)})


def context(length, random):
    """With how many of a problem's steps it is learned from: half of the time all, since that teaches most."""
    return length if random.random() < 0.5 else int(random.integers(length + 1))
