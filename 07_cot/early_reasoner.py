"""Reasoners that were stopped early: right often enough to learn from, wrong often enough for votes and verifiers."""

import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from checkpoint import ensured
from flags import UserError
from reasoner import train_command, training_arguments

# chosen on validation problems: of these the likeliest chains solve about a fifth (countdown) and two fifths
EARLY = {"countdown": {"difficulty": 4, "batch_size": 64, "steps": 250},
         "arithmetic": {"difficulty": 8, "batch_size": 64, "steps": 90}}


def early_path(data, seed=1337):
    """Where an early reasoner stands; other settings have another place."""
    key = zlib.crc32(repr(EARLY[data]).encode())
    return flags.CHECKPOINTS / f"07_cot_{data}_early_{key:08x}_{seed}.pt"


def ensure_early(data, seed=1337):
    """The path of a reasoner that was stopped early; if there is none, it is trained now. Raises UserError."""
    if data not in EARLY:
        raise UserError(f"no early model of {data}: choose from {', '.join(EARLY)}, or train one with 07_cot/train.py"
                        " --style chain, and name it with --reasoner")
    return ensure_trained(early_path(data, seed), data, EARLY[data], seed)


def ensure_trained(path, data, chosen, seed):
    """The path of a reasoner with these settings; where there is no finished one it is trained now."""
    def train(words):
        words += ["-d", data, "--seed", seed, "--difficulty", chosen["difficulty"],
                  128, chosen["batch_size"], 256, 5e-3, chosen["steps"]]
        return train_command(training_arguments("").parse(map(str, words)), "chain")

    return ensured(path, train, "gpt")
