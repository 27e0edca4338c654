"""The Tiny Thought Model: it learns to write a teacher's thoughts, in two steps.

1. On chains that the teacher wrote, as on any text: sequence-level distillation (Kim and Rush 2016, "Sequence-Level
   Knowledge Distillation", section 3.2; the likeliest chain stands for all).
2. On chains that it writes itself, where the teacher says how likely it finds each token (Agarwal et al. 2024,
   "On-Policy Distillation of Language Models", algorithm 1, with lambda = 1).
The teacher is the base of thinking_base.py. What each step is worth: router_curve.py --distillation.
Shapes: B texts, T tokens.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import checkpoint
from chains import row_generators, think
from distill import Distilled
from fast_decode import for_writing
from gpt import GPT
from lm_model import placed
from reasoner import load_reasoner
from sampling import Sampling
from thinking_base import Foresight, ensure_base
from thought_plan import (
    chain_row,
    chains_apart,
    collated,
    ensured,
    even_batches,
    for_training,
    keep_training,
    row_of,
    unfinished,
)
from trainer import autocast

SIZES = {"embedding_size": 64, "head_count": 4, "key_value_head_count": 4, "layer_count": 4, "window_layers": 2}
SEQUENCE = {"learning_rate": 1e-2, "tokens": 2048, "ahead": 6, "ahead_weight": 0.1}
ON_POLICY = {"learning_rate": 2e-3, "questions": 48, "beta": 1.0}
LESSONS = {"own": "the problems' own chains", "sequence": "the teacher's chains", "first": "the first step of both",
           "tiny": "both steps"}


def ensure_tiny(plan, seed, args, lesson="tiny"):
    """The path of a student of this `lesson`, one of LESSONS; all but "first" train for the same number of steps.

    "tiny" is the Tiny Thought Model. It goes on from "first", which has seen the teacher's chains alone.
    """
    ensure_base(plan, args)
    first = ensure_tiny(plan, seed, args, "first") if lesson == "tiny" else None
    path = plan.path(lesson, seed, [SIZES, SEQUENCE, ON_POLICY])
    return ensured(path, "gpt", lambda: train_tiny(plan, seed, args, lesson, first, path))


def train_tiny(plan, seed, args, lesson, first, path):
    """Train a student and keep it: its history, None after Ctrl-C."""
    torch.manual_seed(seed)
    teacher, dtype, tokenizer, _ = load_reasoner(ensure_base(plan, args), args)
    model, loaded = GPT(replace(teacher.config, **SIZES)), unfinished(path, "gpt")
    if first and not loaded:
        model.load_state_dict(checkpoint.load(first, "gpt")["model"])
    if loaded:
        model.load_state_dict(loaded["model"])
    model, dtype = placed(model, args)
    asked = for_training(plan, plan.chains, seed)
    held_out = chains_apart(plan, seed, tokenizer)
    steps = {"first": plan.sequence_steps, "tiny": plan.on_policy_steps}.get(
        lesson, plan.sequence_steps + plan.on_policy_steps)
    if lesson == "tiny":
        settings, beside = ON_POLICY, {}
        loss_of = Distilled(model, teacher, 1.0, beta=ON_POLICY["beta"])
        batch = own_writing(model, tokenizer, asked, seed, dtype)
    else:
        loss_of = Foresight(model, tokenizer, SEQUENCE["ahead"], SEQUENCE["ahead_weight"])  # as its teacher learned
        if loaded:
            loss_of.heads.load_state_dict(loaded["heads"])
        settings, beside = SEQUENCE, {"heads": loss_of.heads.state_dict}
        own = [chain_row(each.question, each.chain, tokenizer) for each in asked] if lesson == "own" else None
        batch = even_batches(own or taught(teacher, tokenizer, asked, dtype), SEQUENCE["tokens"], seed)
    run = {"data": plan.data, "piece": LESSONS.get(lesson, lesson), "style": "chain", "difficulty": plan.hardest,
           "seed": seed, "steps": steps, **settings}
    return keep_training("gpt", model, tokenizer, loss_of, batch, held_out, settings, run, path, loaded, dtype,
                         beside)


def longest(problems):
    """Tokens at which a chain is cut off: some more than any right one has."""
    return max(len(each.chain) for each in problems) * 5 // 4


def taught(teacher, tokenizer, asked, dtype):
    """The teacher's likeliest chain for each problem, as examples."""
    model, dtype = for_writing(teacher, dtype)
    with autocast(teacher.head_weight.device, dtype):
        chains = think(model, tokenizer, [each.question for each in asked], max_new_tokens=longest(asked))
    return [row_of(tokenizer.encode(each.question), chain.ids) for each, (chain,) in zip(asked, chains)]


def own_writing(model, tokenizer, problems, seed, dtype):
    """step -> a batch of what the student, with the weights that it has by then, writes behind some questions."""
    questions = [each.question for each in problems]

    def batch(step):
        chosen = np.random.default_rng((seed, step)).integers(len(questions), size=ON_POLICY["questions"])
        asked = [questions[i] for i in chosen]
        generators = row_generators(len(asked), seed * 1_000_003 + step)
        with autocast(model.head_weight.device, dtype):
            chains = think(model, tokenizer, asked, settings=Sampling(1.0), max_new_tokens=longest(problems),
                           generators=generators)
        return collated([row_of(tokenizer.encode(question), chain.ids) for question, (chain,) in zip(asked, chains)])

    return batch
