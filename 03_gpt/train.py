"""Train a gpt2-style language model and save it: the first half of lm_model.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from lm_model import train_command, training_arguments


def main():
    args = training_arguments("Train a gpt2-style language model on a text and save it.").parse()
    if train_command(args) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
