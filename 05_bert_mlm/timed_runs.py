"""Train several models for the same time, and draw how well they guess, against seconds."""

import copy
import sys
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import trainer
from atomic import save_figure
from bert_model import FAMILIES, BERTConfig
from flags import UserError
from lm_model import placed
from measure import seconds
from mlm_training import ADAMW_SHARE, guessed
from optimizers import make_optimizer
from schedules import SCHEDULES

TRIAL = 5  # steps that tell how long one takes


def model_of(kind, args, tokenizer):
    """(a new model of the class `kind`, on its device, and dtype)."""
    sizes = args.embedding_size, args.block_size, args.head_count, args.layer_count
    return placed(kind(BERTConfig(tokenizer.vocab_size, *sizes, args.dropout, **FAMILIES[args.family])), args)


def trained(model, batch, args, dtype, steps, validate):
    optimizer = make_optimizer(model, args.optimizer, args.learning_rate, adamw_share=ADAMW_SHARE)
    schedule = SCHEDULES[args.schedule](args.learning_rate, steps, 0.05, 0.0)
    history = trainer.train(model, batch, optimizer, schedule, steps, validate, dtype=dtype, seed=args.seed)
    if history is None:
        raise UserError("stopped: what was measured so far is no comparison; fewer --seconds take less time")
    return history


def run_for(model, batch, args, dtype, held_out):
    """Train for about args.seconds; returns [(seconds, loss, share guessed)] of the hidden tokens of some batches."""
    trial = copy.deepcopy(model)
    a_step = seconds(lambda: trained(trial, batch, args, dtype, TRIAL, lambda: 0.0)) / TRIAL
    scores = []

    def validate():
        scores.append(guessed(model, held_out, dtype))
        return scores[-1][0]

    history = trained(model, batch, args, dtype, max(1, round(args.seconds / a_step)), validate)
    rows = [row for row in history if row["validation_loss"] is not None]
    return [(row["seconds"], *found) for row, found in zip(rows, scores)]


def draw(curves, marks, path, title):
    """Loss and share guessed against seconds, {name: [(seconds, loss, share)]}, beside marks {name: (loss, share)}."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for column, (axes, what) in enumerate(zip(figure.subplots(1, 2), ("loss", "share guessed right")), 1):
        for name, points in curves.items():
            axes.plot([point[0] for point in points], [point[column] for point in points], "o-", markersize=3,
                      label=name)
        for (name, scores), style in zip(marks.items(), (":", "--", "-.")):
            axes.axhline(scores[column - 1], color="gray", linestyle=style, linewidth=1, label=name)
        axes.set(xlabel="seconds of training", ylabel=what)
        axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    figure.suptitle(title)
    save_figure(figure, path)
