"""Let a trained model write: the second half of lm_model.py.

    python 03_gpt/infer.py "The with statement"
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from lm_model import DEFAULT_CHECKPOINT, ensure_model, load_model, write


def main():
    parser = flags.Parser("Let a trained model go on from a prompt.")
    parser.add_argument("text", nargs="?", help="the prompt, if not given with -p")
    parser.add_argument("-l", "--load_model", metavar="PATH", default=str(DEFAULT_CHECKPOINT), help="the checkpoint")
    flags.generation_flags(parser, "nothing, a new document begins")
    flags.machine_flags(parser)
    args = parser.parse()
    flags.check_generation(args)
    if args.load_model == str(DEFAULT_CHECKPOINT):
        ensure_model()
    model, dtype, tokenizer = load_model(args)
    prompt = args.prompt if args.prompt is not None else args.text or ""
    write(model, dtype, tokenizer, tokenizer.encode(prompt, disallowed_special=()), args)


if __name__ == "__main__":
    flags.run(main)
