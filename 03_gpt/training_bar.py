"""What a training says while it runs: how far it is, how fast, how long it will take, and each validation."""

import sys

import numpy as np
from tqdm import tqdm


class TrainingBar(tqdm):
    """One line that is redrawn; `write(text)` puts a line that stays above it.

    `full_speed`: tokens per second if this machine did nothing but multiply matrices, to compare with.
    """

    def __init__(self, first_step, steps, full_speed=None, disable=False):
        # on a screen the line is redrawn twice a second, in a file it is written every half minute
        super().__init__(unit=" tokens", unit_scale=True, mininterval=0.5 if sys.stderr.isatty() else 30,
                         smoothing=0.05, bar_format="{desc} |{bar:20}| {rate_fmt}{postfix}, {remaining} left",
                         disable=disable)
        self.first_step, self.steps, self.full_speed, self.told = first_step, steps, full_speed, False

    def step(self, done, tokens, loss):
        """`done` steps are behind us, the last one of so many tokens."""
        self.total = (self.steps - self.first_step) * tokens
        self.set_description_str(f"step {done:,}/{self.steps:,}  loss {loss:.3f}", refresh=False)
        self.update(tokens)
        elapsed = self.format_dict["elapsed"]
        if self.full_speed and elapsed:
            self.set_postfix_str(f"{self.n / elapsed / self.full_speed:.0%} of matrix speed", refresh=False)
        if not self.told and (done == min(self.first_step + 5, self.steps) or elapsed > 20):
            to_go = duration((self.steps - done) * elapsed / (done - self.first_step))
            self.write(f"about {to_go} of training to go; Ctrl-C saves and stops")
            self.told = True

    def validated(self, history):
        """Tell the last row of a history, its training loss as the mean of all rows since the validation before."""
        rows = [history[-1]]
        for row in reversed(history[:-1]):
            if row["validation_loss"] is not None:
                break
            rows.append(row)
        training_loss = np.mean([row["training_loss"] for row in rows])
        self.write(f"step {history[-1]['step']:,}: training loss {training_loss:.3f},"
                   f" validation loss {history[-1]['validation_loss']:.3f}")


def duration(seconds):
    """Seconds as people say them: 4000 -> "67 minutes"."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
