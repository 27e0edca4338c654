"""The recipes for tiny Shakespeare as a benchmark runs them: seconds of training, and the loss after it.

The text is cut as nanoGPT cuts it; nothing of a recipe was chosen by its last tenth.
"""

import contextlib
import io
import math
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import trainer
from evaluation import evaluate
from lm_model import build
from nanogpt_recipe import characters
from optimizers import make_optimizer
from pretraining import chosen_parts, make_batches
from recipes import parse, training_arguments
from schedules import SCHEDULES


def trained(name, seed):
    """Train by a recipe of recipes.py -> (seconds of training, model, dtype, all validation tokens)."""
    train_tokens, val_tokens, vocab_size = characters("tinyshakespeare")
    args = parse(training_arguments(""), ["--recipe", name, "--seed", str(seed)])
    torch.manual_seed(seed)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        model, dtype = build(args, vocab_size, **chosen_parts(args))
        optimizer = make_optimizer(model, args.optimizer, args.learning_rate, args.weight_decay)
        batch = make_batches(args, 1, None, train_tokens)
        schedule = SCHEDULES[args.schedule](args.learning_rate, args.steps, args.warmup, args.final)
        began = time.perf_counter()
        history = trainer.train(model, batch, optimizer, schedule, args.steps, lambda: math.nan, dtype=dtype, seed=seed)
        seconds = time.perf_counter() - began
    if history is None:  # a model that Ctrl-C left half-trained is no result
        raise KeyboardInterrupt
    return seconds, model, dtype, val_tokens


def run(name, seed):
    """Train by a recipe -> (seconds of training, loss over the whole validation split, parameters)."""
    seconds, model, dtype, val_tokens = trained(name, seed)
    loss = evaluate(model, val_tokens, 32, model.config.block_size, dtype)
    return seconds, loss, model.parameter_count()
