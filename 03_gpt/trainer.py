"""The training loop, for every model of the course from here on: one function, read from top to bottom."""

import contextlib
import ctypes
import math
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from evaluation import autocast
from torch import distributed
from training_bar import TrainingBar

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from flags import UserError

MICRO_BATCH = {"cpu": 4096, "mps": 8192, "cuda": 32768}  # tokens whose activations are held at a time
SAVE_EVERY = 300  # seconds
ROWS, VALIDATIONS = 100, 10  # of a run's history
BAD_STEPS = 5  # one after another: then no number will come again


def decay_groups(parameters, weight_decay, **settings):
    """Two groups of parameters for an optimizer: matrices, which decay, and the rest."""
    parameters = list(parameters)
    return [{"params": [w for w in parameters if w.dim() >= 2], "weight_decay": weight_decay, **settings},
            {"params": [w for w in parameters if w.dim() < 2], "weight_decay": 0.0, **settings}]


def make_optimizer(model, learning_rate):
    """AdamW with weight decay on matrices only. Loshchilov and Hutter 2019, "Decoupled Weight Decay"."""
    groups = decay_groups(model.parameters(), weight_decay=0.1)
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


def warmup_cosine(learning_rate, steps, warmup=0.05):
    """step -> learning rate: up in a straight line for 5 % of the steps, then down half a cosine to nearly 0."""

    def schedule(step):
        rising = (step + 1) / max(1.0, warmup * steps)
        return learning_rate * min(rising, (1 + math.cos(math.pi * step / steps)) / 2)

    return schedule


def random_batches(tokens, batch_size, block_size, seed):
    """step -> (ids, targets), each (B, T): pieces of the text from random places, targets one token on.

    The places depend on (seed, step) alone, so that a run that goes on after a break sees what it would have seen.
    """

    def batch(step):
        starts = np.random.default_rng((seed, step)).integers(len(tokens) - block_size, size=batch_size)
        pieces = np.stack([tokens[i : i + block_size + 1] for i in starts]).astype(np.int64)  # (B, T + 1)
        return torch.from_numpy(pieces[:, :-1]), torch.from_numpy(pieces[:, 1:])

    return batch


def dense_parameters(model):
    """All but tables with sparse gradients: their optimizers do not care how long a gradient is."""
    sparse = {part.weight for part in model.modules() if isinstance(part, torch.nn.Embedding) and part.sparse}
    return [weight for weight in model.parameters() if weight not in sparse]


def this_process():
    """(number of this process, how many train together): (0, 1) unless torchrun started several."""
    several = distributed.is_available() and distributed.is_initialized()
    return (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)


def new_progress():
    """What a call of `train` needs to go on, when nothing has been done yet."""
    return {"step": 0, "seconds": 0.0, "losses": [], "history": [], "best_loss": math.inf, "best_step": 0, "bad": 0,
            "finished": False}


def add_row(progress, learning_rate, gradient_norm, validation_loss=None):
    """Put a row at the end of the history; say whether its validation loss is the best so far."""
    losses, step = progress["losses"], progress["step"]
    progress["history"].append({
        "step": step, "seconds": progress["seconds"], "learning_rate": learning_rate,
        "training_loss": float(np.mean(losses or [math.nan])), "gradient_norm": gradient_norm,
        "validation_loss": validation_loss})
    losses.clear()
    best = validation_loss is not None and validation_loss < progress["best_loss"]
    if best:
        progress.update(best_loss=validation_loss, best_step=step)
    return best


def add_gradients(model, parts, rows, dtype):
    """Add up the gradients of a batch, so many rows at a time, as if it had been one; returns the mean loss.

    Of several processes each takes every nth row; their gradients are averaged (DistributedDataParallel).
    """
    rank, world = this_process()
    counted = (parts[1] != -100).sum()
    mine = [part[rank::world] for part in parts]
    total = 0.0
    for i in range(0, len(mine[0]), rows):
        piece = [part[i : i + rows] for part in mine]
        last = i + rows >= len(mine[0])
        with contextlib.nullcontext() if last or world == 1 else model.no_sync():
            with autocast(piece[0].device, dtype):
                _, loss = model(*piece)
            share = (piece[1] != -100).sum() / counted
            (loss * share * world).backward()
        total += (loss.detach() * share).item()
    return total


def finite(weight):
    """Whether all numbers of a weight are finite, in one look at each: isfinite().all() makes copies of all of them."""
    return not weight.numel() or all(math.isfinite(edge) for edge in torch.aminmax(weight.detach()))


def keep_freed_memory():
    """Let the C library of Linux keep what tensors give back, for the next ones.

    Else every large one is new memory, whose pages the system clears: more work than many a product of matrices.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-4, 0)  # M_MMAP_MAX: no memory that would go back to the system at once
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: and none when much of it is free


def train(model, batch, optimizer, schedule, steps, validate, save=None, progress=None, dtype=torch.float32, *,
          seed=0, clip=1.0, micro_batch=None, patience=None, full_speed=None, on_row=None):
    """Train up to `steps`; return the history, or None when Ctrl-C ended it early.

    `batch(step)` gives ids, targets (of which -100 does not count) and what else the model takes, each (B, ...);
    `schedule(step)` the learning rate; `validate()` a loss. `save(progress, best)` keeps a checkpoint, `best` saying
    whether it is the best so far. Progress is what a later call needs to go on as if there had been no break, whatever
    ended the first one: batches and dropout depend on (seed, step) alone. The history has a row for each hundredth of
    the run, with a validation loss for each tenth; `on_row(history)` sees it grow.
    `patience`: stop after so many validations without a better one. `micro_batch`: tokens whose activations are held
    at a time. `full_speed`: tokens per second if this machine did nothing but multiply matrices, to compare with.
    Raises UserError when the loss is no number several times running; a single time is skipped, and told.
    """
    keep_freed_memory()
    device = next(model.parameters()).device
    rank, world = this_process()
    progress = progress or new_progress()
    history, losses, first_step = progress["history"], progress["losses"], progress["step"]
    dense = dense_parameters(model)
    between = max(1, steps // VALIDATIONS)
    saved_at = time.monotonic()
    bar = TrainingBar(first_step, steps, full_speed, disable=rank > 0)

    def keep(best):
        """Save, unless the weights are of no use any more; a full disk is told, and the run goes on."""
        if save and rank == 0 and not progress["bad"] and all(map(finite, model.parameters())):
            try:
                save(progress, best)
            except UserError as error:
                if progress["step"] == steps:
                    raise
                bar.write(f"{error}: not saved, trying again later")

    model.train()
    with bar, interrupts() as interrupted:
        for step in range(first_step, steps):
            began = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = schedule(step) * group.get("lr_scale", 1.0)
            torch.manual_seed(((seed * 1_000_003 + step) * world + rank) % 2**63)
            parts = [part.to(device) for part in batch(step)]
            tokens = parts[1].numel()
            rows = max(1, (micro_batch or MICRO_BATCH.get(device.type, 4096)) * len(parts[1]) // tokens)
            loss, stop = add_gradients(model, parts, rows, dtype), bool(interrupted)
            if world > 1:
                loss, stop = of_all(loss, stop, device)
            norm = torch.nn.utils.clip_grad_norm_(dense, clip).item()
            done = progress["step"] = step + 1
            if math.isfinite(loss) and math.isfinite(norm):
                optimizer.step()
                losses.append(loss)
                progress["bad"] = 0
            else:
                progress["bad"] += 1
                bar.write(f"step {done:,}: loss {loss}, gradient norm {norm}: skipped")
            optimizer.zero_grad()
            if progress["bad"] == BAD_STEPS:
                kept = "what was saved before is kept" if save else "nothing was saved"
                raise UserError(f"the loss is {loss} at step {done:,}, and {BAD_STEPS} steps running were of no use:"
                                f" try a smaller learning_rate; {kept}")
            progress["seconds"] += time.perf_counter() - began
            bar.step(done, tokens, np.mean(losses[-10:] or [loss]))

            validated = done % between == 0 or done == steps
            best = False
            if validated or done % max(1, steps // ROWS) == 0:
                best = add_row(progress, schedule(step), norm, together(validate, device) if validated else None)
                if on_row:
                    on_row(history)
            if validated:
                bar.validated(history)
                late = done - progress["best_step"]
                progress["finished"] = done == steps or (patience is not None and late >= patience * between)
            if validated or stop or time.monotonic() - saved_at > SAVE_EVERY:
                keep(best)
                saved_at = time.monotonic()
            if stop or progress["finished"]:
                break
    if not progress["finished"]:
        print(f"stopped after step {progress['step']:,} of {steps:,}")
        return None
    if progress["step"] < steps:
        print(f"stopped early: no better than at step {progress['best_step']:,} for {patience} validations")
    return history


def of_all(loss, stop, device):
    """The sum of what all processes have as their part of the loss, and whether any is to stop: all see the same."""
    seen = torch.tensor([loss, float(stop)], device=device)
    distributed.all_reduce(seen)
    return seen[0].item(), seen[1].item() > 0


def together(validate, device):
    """What validate() says in the first process, in all of them."""
    rank, world = this_process()
    if world == 1:
        return validate()
    said = torch.tensor(validate() if rank == 0 else 0.0, device=device)
    distributed.broadcast(said, 0)
    return said.item()


@contextlib.contextmanager
def interrupts():
    """Let Ctrl-C wait: yields a list that is empty until the first one. A second one acts at once."""
    caught, usual = [], signal.getsignal(signal.SIGINT)

    def note(number, frame):
        caught.append(number)
        signal.signal(signal.SIGINT, usual)
        print("\nstopping after this step (Ctrl-C again: now, without saving)", file=sys.stderr)

    signal.signal(signal.SIGINT, note)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, usual)
