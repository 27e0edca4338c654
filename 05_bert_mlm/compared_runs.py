"""Train models that are to be compared, and draw how well they guess hidden tokens."""

import contextlib
import copy
import io
import sys
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import trainer
from atomic import save_figure
from bert_model import FAMILIES, BERTConfig
from flags import UserError
from lm_model import placed
from mlm_training import ADAMW_SHARE, guessed
from optimizers import make_optimizer
from schedules import SCHEDULES

TRIAL = 5  # steps that tell how long one takes


def model_of(kind, args, tokenizer):
    """(a new model of the class `kind`, on its device, and dtype)."""
    sizes = args.embedding_size, args.block_size, args.head_count, args.layer_count
    return placed(kind(BERTConfig(tokenizer.vocab_size, *sizes, args.dropout, **FAMILIES[args.family])), args)


def trained(model, batch, args, dtype, steps, held_out):
    """Train for so many steps; returns [(step, seconds, loss, share guessed)] of the hidden tokens of some batches."""
    optimizer = make_optimizer(model, args.optimizer, args.learning_rate, adamw_share=ADAMW_SHARE)
    schedule = SCHEDULES[args.schedule](args.learning_rate, steps, 0.05, 0.0)
    scores = []

    def validate():
        scores.append(guessed(model, held_out, dtype))
        return scores[-1][0]

    history = trainer.train(model, batch, optimizer, schedule, steps, validate, dtype=dtype, seed=args.seed)
    if history is None:
        raise UserError("stopped: half a comparison is none; fewer steps take less time")
    rows = [row for row in history if row["validation_loss"] is not None]
    return [(row["step"], row["seconds"], *found) for row, found in zip(rows, scores)]


def seconds_a_step(model, batch, args, dtype):
    """The processor's time of a step with a copy of the model: what else runs at the time does not count.

    An accelerator's is told by the clock.
    """
    on_cpu = next(model.parameters()).device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    began = clock()
    with contextlib.redirect_stdout(io.StringIO()):  # nobody needs to know how these went
        trained(copy.deepcopy(model), batch, args, dtype, TRIAL, [])
    return (clock() - began) / TRIAL / (torch.get_num_threads() if on_cpu else 1)


def draw(curves, marks, path, title, against="steps"):
    """Loss and share guessed against steps or seconds, {name: `trained`'s rows}, beside marks {name: (loss, share)}."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("loss", "share guessed right")):
        column = 2 if what == "loss" else 3
        for name, rows in curves.items():
            axes.plot([row[against == "seconds"] for row in rows], [row[column] for row in rows], "o-", markersize=3,
                      label=name)
        for (name, scores), style in zip(marks.items(), (":", "--", "-.")):
            axes.axhline(scores[column - 2], color="gray", linestyle=style, linewidth=1, label=name)
        axes.set(xlabel=f"{against} of training", ylabel=what)
        axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    figure.suptitle(title)
    save_figure(figure, path)
