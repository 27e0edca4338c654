"""Let a trained model write: the second half of lm_model.py.

    python 03_gpt/infer.py "The with statement"
    python 03_gpt/infer.py -p "The with statement" --samples 4 --stop "." --logprobs
    python 03_gpt/infer.py --prompts questions.txt --stats
    python 03_gpt/infer.py --interactive
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from flags import UserError
from lm_model import DEFAULT_CHECKPOINT, ensure_model, load_model
from pretrained import is_pretrained, load_pretrained
from trainer import autocast
from writing import Stopwatch, chosen_settings, write, write_one


def load(args):
    """(model, dtype, tokenizer) of what -l names: a checkpoint of ours, or real weights."""
    if not is_pretrained(args.load_model):
        return load_model(args)
    model, tokenizer = load_pretrained(args.load_model)
    device = flags.choose_device(args.device)
    dtype = flags.choose_dtype(args.dtype, device, model.config.embedding_size)
    print(f"device {device}, dtype {str(dtype).removeprefix('torch.')}, {model.parameter_count():,} parameters")
    return model.to(device), dtype, tokenizer


def read_prompts(args):
    """The prompts that the flags name. Raises UserError if their file has none, or is no text."""
    if not args.prompts:
        return [args.prompt if args.prompt is not None else args.text or ""]
    try:
        lines = Path(args.prompts).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{args.prompts} is no UTF-8 text: save it as UTF-8") from error
    if not any(line.strip() for line in lines):
        raise UserError(f"{args.prompts} has no prompt: write one on each line")
    return [line for line in lines if line.strip()]


def converse(model, dtype, tokenizer, args, stop_tokens):
    """Go on with each line that is typed, until the input ends; Ctrl-C ends one answer."""
    torch.manual_seed(args.seed)
    settings = chosen_settings(args, tokenizer, stop_tokens)
    sys.stdin.reconfigure(errors="replace")
    if sys.stdin.isatty():
        print("one prompt a line; Ctrl-C ends an answer, Ctrl-D (Windows: Ctrl-Z, Enter) the session")
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if not line.strip():
            continue
        try:
            watch = Stopwatch()
            ids = tokenizer.encode(line, disallowed_special=())
            with autocast(model.head_weight.device, dtype):
                write_one(model, tokenizer, ids, settings, watch, args)
        except UserError as error:
            print(error, flush=True)
            continue
        except KeyboardInterrupt:
            print("\n---- (stopped)", flush=True)
        if args.stats:
            print(watch.line(stats=True), flush=True)


def main():
    parser = flags.Parser("Let a trained model go on from a prompt.")
    parser.add_argument("text", nargs="?", help="the prompt, if not given with -p")
    parser.add_argument("-l", "--load_model", metavar="PATH", default=str(DEFAULT_CHECKPOINT),
                        help="the checkpoint, or a folder, file or name of real weights")
    parser.add_argument("--prompts", metavar="FILE", help="a file of prompts, one a line, to go on from all at once")
    parser.add_argument("--interactive", action="store_true", help="go on from every line that is typed")
    flags.generation_flags(parser, "nothing, a new document begins")
    flags.machine_flags(parser)
    args = parser.parse()
    flags.check_generation(args)
    if (args.text is not None or args.prompt is not None) + bool(args.prompts) + args.interactive > 1:
        raise UserError("a prompt, --prompts and --interactive exclude each other: choose one")
    if args.interactive and max(args.samples, args.best_of, args.beams) > 1:
        raise UserError("--interactive shows one answer as it comes: leave out --samples, --best_of and --beams")
    texts = read_prompts(args)
    if args.load_model == str(DEFAULT_CHECKPOINT):
        ensure_model()
    model, dtype, tokenizer = load(args)
    # an answer ends where the model ends it; a sample of our own small models shows what they do then, too
    stop_tokens = (tokenizer.end_of_text,) if args.interactive or is_pretrained(args.load_model) else ()
    if args.interactive:
        converse(model, dtype, tokenizer, args, stop_tokens)
    else:
        prompts = [tokenizer.encode(text, disallowed_special=()) for text in texts]
        write(model, dtype, tokenizer, prompts, args, stop_tokens)


if __name__ == "__main__":
    flags.run(main)
