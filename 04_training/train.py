"""Pretrain a model in earnest: other optimizers and schedules, mixtures of texts, several processes, and a full log.

    python 04_training/train.py
    python 04_training/train.py --recipe tinystories --samples 1
    python 04_training/train.py -l checkpoints/04_training.pt            # goes on, whatever ended the run
    torchrun --nproc_per_node 2 04_training/train.py --optimizer adamw
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from distributed import processes
from pretraining import train_command
from recipes import parse, training_arguments


def main():
    args = parse(training_arguments("Pretrain a language model on a text, or several, and save it."))
    with processes(args.device) as count:
        if train_command(args, count) is None:
            sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
