"""The Tiny Thought Model: it learns to write a teacher's thoughts, in two steps.

1. On chains that the teacher wrote, as on any text: sequence-level distillation (Kim and Rush 2016, "Sequence-Level
   Knowledge Distillation", section 3.2; the likeliest chain stands for all).
2. On chains that it writes itself, where the teacher says how likely it finds each token (Agarwal et al. 2024,
   "On-Policy Distillation of Language Models", algorithm 1, with lambda = 1).
The teacher is the base of thinking_base.py. What each step is worth: router_curve.py --distillation. The student of
real weights is new, too, small, and has their vocabulary, since the teacher's logits are of that.
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
from evaluation import autocast
from family import encoded
from fast_decode import for_writing
from fine_tuning import load_model
from gpt import GPT, GPTConfig
from lm_model import placed
from reasoner import PARTS
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
    writing,
)

SIZES = {"embedding_size": 64, "head_count": 4, "key_value_head_count": 4, "layer_count": 4, "window_layers": 2}
SEQUENCE = {"learning_rate": 1e-2, "tokens": 2048, "ahead": 6, "ahead_weight": 0.1}
ON_POLICY = {"learning_rate": 2e-3, "questions": 48, "beta": 1.0}
REAL_SIZES = SIZES | {"embedding_size": 128, "window": 8} | PARTS  # of the student of real weights
REAL_SEQUENCE = {"learning_rate": 5e-3, "tokens": 512}
REAL_ON_POLICY = ON_POLICY | {"questions": 12}
LESSONS = {"own": "the problems' own chains", "sequence": "the teacher's chains", "first": "the first step of both",
           "tiny": "both steps"}


def ensure_tiny(plan, seed, args, lesson="tiny"):
    """The path of a student of this `lesson`, one of LESSONS; all but "first" train for the same number of steps.

    "tiny" is the Tiny Thought Model. It goes on from "first", which has seen the teacher's chains alone.
    """
    ensure_base(plan, args)
    first = ensure_tiny(plan, seed, args, "first") if lesson == "tiny" else None
    path = plan.path(lesson, seed, [*sizes_and_lessons(plan)])
    return ensured(path, "gpt", lambda: train_tiny(plan, seed, args, lesson, first, path))


def sizes_and_lessons(plan):
    """What the student's config differs in, and the settings of the two steps."""
    return (REAL_SIZES, REAL_SEQUENCE, REAL_ON_POLICY) if plan.load_model else (SIZES, SEQUENCE, ON_POLICY)


def new_student(teacher, sizes, real):
    """A GPT that knows nothing, with the teacher's vocabulary; half as wide at most, if the teacher is not ours."""
    if not real:
        return GPT(replace(teacher.config, **sizes))
    width = min(sizes["embedding_size"], teacher.config.embedding_size // 16 * 8)
    return GPT(GPTConfig(teacher.config.vocab_size, block_size=teacher.config.block_size,
                         **sizes | {"embedding_size": width}))


def train_tiny(plan, seed, args, lesson, first, path):
    """Train a student and keep it: its history, None after Ctrl-C."""
    torch.manual_seed(seed)
    teacher, dtype, tokenizer = load_model(ensure_base(plan, args), args)
    sizes, sequence, on_policy = sizes_and_lessons(plan)
    model, loaded = new_student(teacher, sizes, plan.load_model), unfinished(path, "gpt")
    if first and not loaded:
        model.load_state_dict(checkpoint.load(first, "gpt")["model"])
    if loaded:
        model.load_state_dict(loaded["model"])
    model, dtype = placed(model, args)
    print(f"{model.parameter_count() / teacher.parameter_count():.1%} of its teacher's parameters")
    asked = for_training(plan, plan.chains, seed)
    held_out = chains_apart(plan, seed, tokenizer)
    steps = {"first": plan.sequence_steps, "tiny": plan.on_policy_steps}.get(
        lesson, plan.sequence_steps + plan.on_policy_steps)
    if lesson == "tiny":
        settings, beside = on_policy, {}
        loss_of = Distilled(model, teacher, 1.0, beta=on_policy["beta"])
        batch = own_writing(model, tokenizer, asked, seed, dtype, on_policy["questions"],
                            writing(plan, tokenizer, temperature=1.0))
    else:
        settings, beside, loss_of = sequence, {}, model
        if "ahead" in sequence:  # as its teacher learned
            loss_of = Foresight(model, tokenizer, sequence["ahead"], sequence["ahead_weight"])
            if loaded:
                loss_of.heads.load_state_dict(loaded["heads"])
            beside = {"heads": loss_of.heads.state_dict}
        own = [chain_row(each.question, each.chain, tokenizer) for each in asked] if lesson == "own" else None
        batch = even_batches(own or taught(teacher, tokenizer, asked, dtype, writing(plan, tokenizer)),
                             sequence["tokens"], seed)
    run = {"data": plan.data, "piece": LESSONS.get(lesson, lesson), "style": "chain", "difficulty": plan.hardest,
           "seed": seed, "steps": steps, **settings}
    return keep_training("gpt", model, tokenizer, loss_of, batch, held_out, settings, run, path, loaded, dtype,
                         beside)


def longest(problems, tokenizer):
    """Tokens at which a chain is cut off: some more than any right one has."""
    return max(len(encoded(each.chain, tokenizer)) for each in problems) * 5 // 4


def taught(teacher, tokenizer, asked, dtype, settings):
    """The teacher's likeliest chain for each problem, as examples."""
    model, dtype = for_writing(teacher, dtype)
    with autocast(teacher.head_weight.device, dtype):
        chains = think(model, tokenizer, [each.question for each in asked], settings=settings,
                       max_new_tokens=longest(asked, tokenizer))
    return [row_of(encoded(each.question, tokenizer), chain.ids) for each, (chain,) in zip(asked, chains)]


def own_writing(model, tokenizer, problems, seed, dtype, count, settings):
    """step -> a batch of what the student, with the weights that it has by then, writes behind some questions."""
    questions, most = [each.question for each in problems], longest(problems, tokenizer)

    def batch(step):
        chosen = np.random.default_rng((seed, step)).integers(len(questions), size=count)
        asked = [questions[i] for i in chosen]
        generators = row_generators(len(asked), seed * 1_000_003 + step)
        with autocast(model.head_weight.device, dtype):
            chains = think(model, tokenizer, asked, settings=settings, max_new_tokens=most,
                           generators=generators)
        return collated([row_of(encoded(question, tokenizer), chain.ids) for question, (chain,) in zip(asked, chains)])

    return batch
