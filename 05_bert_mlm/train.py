"""Train BERT on a text: a part of it is hidden, and guessed.

    python 05_bert_mlm/train.py
    python 05_bert_mlm/train.py --family bert --pairs --optimizer adamw
    python 05_bert_mlm/train.py -l checkpoints/05_bert_mlm.pt            # goes on, whatever ended the run
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from mlm_training import train_command, training_arguments


def main():
    if train_command(training_arguments("Train BERT to fill in blanks, and save it.").parse()) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
