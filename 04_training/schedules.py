"""Schedules: how large the steps of a training are, from the first to the last.

Each makes a function step -> learning rate, as trainer.train wants it: up in a straight line for a share `warmup` of
the steps, and then, in a way of its own, down to a share `final` of the learning rate. The first step is not 0, as it
is elsewhere: a step of 0 is a batch that teaches nothing.
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from flags import UserError
from trainer import warmup_cosine


def warmed_up(fall, learning_rate, steps, warmup, final):
    """step -> learning rate; `fall` says how it goes down: progress 0 .. 1 -> 1 .. 0."""
    for name, share in (("warmup", warmup), ("final", final)):
        if not 0 <= share <= 1:
            raise UserError(f"{name} {share} must be a share: from 0 to 1")
    rise = round(warmup * steps)

    def schedule(step):
        if step < rise:
            return learning_rate * (step + 1) / rise
        progress = min(1.0, (step - rise) / max(1, steps - rise))
        return learning_rate * (final + (1 - final) * fall(progress))

    return schedule


def constant(learning_rate, steps, warmup=0.05, final=1.0):
    """Stay at the top; `final` is taken for the sake of a common call, and not needed."""
    return warmed_up(lambda progress: 1.0, learning_rate, steps, warmup, final)


def linear(learning_rate, steps, warmup=0.05, final=0.0):
    """A straight line down."""
    return warmed_up(lambda progress: 1 - progress, learning_rate, steps, warmup, final)


def cosine(learning_rate, steps, warmup=0.05, final=0.1):
    """Half a cosine down; it begins where the warm-up ends, while that of 03 begins at step 0, and is cut off.

    Loshchilov and Hutter 2017, "SGDR", equation 5; the tenth at the end is GPT-3's.
    """
    return warmed_up(warmup_cosine(1.0, steps=1, warmup=0), learning_rate, steps, warmup, final)


def warmup_stable_decay(learning_rate, steps, warmup=0.05, final=0.0, decay=0.1):
    """Stay at the top, and fall in the last share `decay` of the steps only: until then, no end need be known.

    Hu et al. 2024, "MiniCPM", section 4, who fall exponentially; 1 - sqrt is from Hägele et al. 2024, "Scaling Laws
    and Compute-Optimal Training Beyond Fixed Training Durations".
    """
    if not 0 < decay <= 1 - warmup:
        raise UserError(f"decay {decay} must be above 0 and at most what warmup {warmup} leaves of 1")
    begin = 1 - decay / (1 - warmup)  # of what is left after the warm-up

    def fall(progress):
        return 1 - math.sqrt(max(0.0, (progress - begin) / (1 - begin)))

    return warmed_up(fall, learning_rate, steps, warmup, final)


SCHEDULES = {"constant": constant, "linear": linear, "cosine": cosine, "warmup_stable_decay": warmup_stable_decay}
