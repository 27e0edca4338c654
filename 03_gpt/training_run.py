"""What surrounds a training run: it goes on where it stopped, and keeps its weights, its log and its loss curve."""

import math
import sys
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import checkpoint
import trainer
from flags import UserError, shown
from training_log import draw_loss_curve, write_log


def unfinished(loaded, run, load, save):
    """The progress of a checkpoint's run if it is the same run as this and not finished; else None, a run begins.

    Raises UserError if the checkpoint holds another unfinished run that would be overwritten.
    """
    if not loaded or loaded["progress"]["finished"]:
        return None
    others = [name for name in run if loaded["run"].get(name) != run[name]]
    if others and save == load:
        raise UserError(f"{load} holds an unfinished run with other {', '.join(others)}: repeat these to go on with"
                        " it, or save a new run elsewhere with -s")
    return None if others else loaded["progress"]


def check_place(save, load):
    """Raise UserError if a new run would take the place of another unfinished one, or its log of another table."""
    table = save.with_suffix(".csv")
    if save == load:
        return
    if save.exists():
        progress = checkpoint.load(save).get("progress", {"finished": True})
        if not progress["finished"]:
            raise UserError(f"{save} holds an unfinished run, after step {progress['step']:,}: go on with -l {save},"
                            " give another path with -s, or delete it")
    elif table.exists() and not table.read_bytes().startswith(b"step,"):
        raise UserError(f"{table} is there, and no log of a run, which this would be: give another path with -s")


def best_path(save):
    """Where the best weights of a run stand, beside the last: lm.pt -> lm_best.pt."""
    return save.with_stem(f"{save.stem}_best")


def train_and_keep(kind, model, tokenizer, optimizer, batch, schedule, validate, run, title, loaded=None, load=None,
                   save=None, dtype=torch.float32, forward=None, on_row=None, keep_best=False, beside=None, known=None,
                   **settings):
    """Train as `run` says, whose every entry must be equal for a later call to go on; returns the history, or None.

    `loaded` is the checkpoint of `load`, if there was one; `save` is where this run's go, with its history (CSV) and
    loss curve (PNG) beside it. `forward` is the model as it is called, if it is wrapped; `beside` has functions that
    give what else a checkpoint keeps, by name. `known` is (what a model that knows nothing has, that loss), if that is
    not ln(vocabulary size). The other settings are those of `trainer.train`.
    """
    progress = unfinished(loaded, run, load, save)
    if save:
        check_place(save, load)
    if loaded and progress:
        optimizer.load_state_dict(loaded["optimizer"])
        print(f"going on with the unfinished run of {load} after step {progress['step']:,}")
    V = model.config.vocab_size
    known = known or (f"ln(vocabulary size {V:,})", math.log(V))
    print(f"loss before training {validate():.3f}, and {known[0]} is {known[1]:.3f}")

    kept_step = None

    def keep(progress, best):
        nonlocal kept_step
        contents = {"model": model.state_dict(), "config": asdict(model.config), "tokenizer": tokenizer.state(),
                    "run": run, "optimizer": optimizer.state_dict(), "progress": progress}
        contents |= {name: state() for name, state in (beside or {}).items()}
        checkpoint.save(save, kind, **contents)
        if best and keep_best:
            checkpoint.save(best_path(save), kind, **contents)
        kept_step = progress["step"]

    def look(history):
        if save and history[-1]["validation_loss"] is not None:
            try:
                write_log(history, save.with_suffix(".csv"))
                draw_loss_curve(history, known, save.with_suffix(".png"), title)
            except UserError as error:  # a full disk, or a table that is open elsewhere, is no reason to stop
                print(f"{error}: trying again later")
        if on_row:
            on_row(history)

    history = trainer.train(
        model if forward is None else forward, batch, optimizer, schedule, run["steps"], validate, save and keep,
        progress, dtype, seed=run["seed"], on_row=look, **settings,
    )
    if history is None:
        if not save:
            print("nothing was saved (-s no_save)")
        elif kept_step is not None:
            print(f"saved: -l {shown(save)} with the same text goes on after step {kept_step:,}")
    return history
