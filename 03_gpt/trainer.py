"""The training loop, for every model of the course from here on: one function, read from top to bottom."""

import contextlib
import math
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from atomic import save_figure
from checkpoint import random_states, set_random_states
from flags import UserError

MICRO_BATCH = {"cpu": 4096, "mps": 8192, "cuda": 32768}  # tokens whose activations are held at a time
SAVE_EVERY = 300  # seconds


def make_optimizer(model, learning_rate):
    """AdamW with weight decay on matrices only. Loshchilov and Hutter 2019, "Decoupled Weight Decay"."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
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


def autocast(device, dtype):
    """Matrix products in `dtype`; weights, their gradients and the loss stay in float32."""
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


@torch.no_grad()
def evaluate(model, tokens, batch_size, block_size, dtype=torch.float32, most=None):
    """Mean loss per token over a text, block by block (the first `most` tokens of it), without dropout."""
    device = next(model.parameters()).device
    training, total = model.training, 0.0
    model.eval()
    count = min(len(tokens) - 1, most or len(tokens))
    at = 0
    while at < count:
        T = min(block_size, count - at)
        B = min(batch_size, (count - at) // T)
        piece = torch.from_numpy(tokens[at : at + B * T + 1].astype(np.int64)).to(device)
        with autocast(device, dtype):
            _, loss = model(piece[:-1].view(B, T), piece[1:].view(B, T))
        total += loss.item() * B * T
        at += B * T
    model.train(training)
    return total / count if count > 0 else math.nan


def train(model, batch, optimizer, schedule, steps, validate, save=None, progress=None, dtype=torch.float32):
    """Train up to `steps`; return the history, or None when Ctrl-C ended it early.

    `batch(step)` gives (ids, targets), `schedule(step)` the learning rate, `validate()` a loss, and
    `save(progress)` keeps a checkpoint. Progress is what a later call needs to go on as if there had
    been no break: the steps done; the history, a row (steps done, mean training loss since the row
    before, validation loss) for each tenth of the run; the losses since its last row; the states of
    the random generators.
    """
    device = next(model.parameters()).device
    progress = progress or {"step": 0, "history": [], "losses": [], "random": random_states()}
    set_random_states(progress["random"])
    history, losses = progress["history"], progress["losses"]
    first_step, told, saved_at = progress["step"], False, time.monotonic()
    # on a screen the line is redrawn twice a second, in a file it is written every half minute
    bar = tqdm(unit=" tokens", unit_scale=True, mininterval=0.5 if sys.stderr.isatty() else 30, smoothing=0.05,
               bar_format="{desc} |{bar:20}| {rate_fmt}, {remaining} left")
    model.train()
    with bar, interrupts() as interrupted:
        for step in range(first_step, steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule(step)
            ids, targets = (part.to(device) for part in batch(step))
            rows = max(1, MICRO_BATCH.get(device.type, 4096) // ids.shape[1])
            step_loss = 0.0
            for i in range(0, len(ids), rows):  # gradients add up as if the batch had been one
                with autocast(device, dtype):
                    _, loss = model(ids[i : i + rows], targets[i : i + rows])
                    loss = loss * (len(ids[i : i + rows]) / len(ids))
                loss.backward()
                step_loss += loss.item()
            if not math.isfinite(step_loss):
                raise UserError(f"the loss is {step_loss} at step {step + 1:,}: try a smaller learning_rate")
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            progress["step"], progress["random"] = step + 1, random_states()
            losses.append(step_loss)
            optimizer.zero_grad()

            done = step + 1
            bar.total = (steps - first_step) * ids.numel()
            bar.set_description_str(f"step {done:,}/{steps:,}  loss {np.mean(losses[-10:]):.3f}", refresh=False)
            bar.update(ids.numel())
            elapsed = bar.format_dict["elapsed"]
            if not told and (done == min(first_step + 5, steps) or elapsed > 20):
                to_go = duration((steps - done) * elapsed / (done - first_step))
                bar.write(f"about {to_go} of training to go; Ctrl-C saves and stops")
                told = True
            if done % max(1, steps // 10) == 0 or done == steps:
                history.append([done, float(np.mean(losses)), validate()])
                losses.clear()
                bar.write("step {:,}: training loss {:.3f}, validation loss {:.3f}".format(*history[-1]))
            elif time.monotonic() - saved_at < SAVE_EVERY and not interrupted:
                continue
            if save:
                save(progress)
                saved_at = time.monotonic()
            if interrupted:
                break
    if progress["step"] < steps:
        print(f"stopped after step {progress['step']:,} of {steps:,}")
        return None
    return history


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


def duration(seconds):
    """Seconds as people say them: 4000 -> "67 minutes"."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def draw_loss_curve(history, initial_loss, path, title):
    """Draw the history of a run as a PNG: both losses against steps, with where they began."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    steps, training, validation = zip(*history)
    axes.plot(steps, training, "o-", markersize=3, label="training (mean since the point before)")
    axes.plot(steps, validation, "o-", markersize=3, label="validation")
    axes.axhline(initial_loss, color="gray", linestyle=":", label=f"knowing nothing: ln(V) = {initial_loss:.2f}")
    axes.set(xlabel="steps", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)
