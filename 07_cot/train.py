"""Train two models on the same problems, for as long: one that thinks first, and one that answers at once.

    python 07_cot/train.py
    python 07_cot/train.py -d knights --style chain
    python 07_cot/train.py -d my_problems.jsonl --difficulty 4      # what annotate.py has written
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from flags import UserError
from problem_batches import STYLES
from reasoner import train_command, training_arguments


def main():
    args = training_arguments("Train models to solve problems, with a chain of thought and without.").parse()
    if args.style == "both" and not (args.load_model == "untrained" and args.save_model in ("default", "no_save")):
        raise UserError("-l and -s name one model: say which with --style chain or --style direct")
    for style in STYLES if args.style == "both" else [args.style]:
        if train_command(args, style) is None:
            sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
