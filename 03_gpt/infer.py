"""Let a trained model write: the second half of lm_model.py.

    python 03_gpt/infer.py "The with statement"
    python 03_gpt/infer.py -p "The with statement" --samples 4 --stop "." --logprobs
    python 03_gpt/infer.py --prompts questions.txt --stats
    python 03_gpt/infer.py --interactive
    python 03_gpt/infer.py -l smollm2 --nearest Paris --analogy man king woman
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
import flags
import look_inside
from atomic import save_figure
from attention_maps import draw_maps, visible
from evaluation import autocast
from fast_decode import FastDecode, for_writing
from flags import UserError
from lm_model import DEFAULT_CHECKPOINT, ensure_model, load_model
from pretrained import is_pretrained
from writing import Stopwatch, chosen_settings, write, write_one
from writing_flags import check_generation, generation_flags


def compile_step(model):
    """Let torch.compile rewrite what reads one token. Raises UserError where it can't compile anything."""
    flags.check_compiler(model.head_weight.device)
    step = "step" if isinstance(model, FastDecode) else "hidden"
    setattr(model, step, torch.compile(getattr(model, step)))


def look(model, tokenizer, args):
    """What --nearest, --analogy and --attention_maps ask for."""
    def tell(found):
        for token, cosine in zip(*found):
            print(f"{cosine:8.3f}  {tokenizer.decode([token])!r}")

    if args.nearest:
        print(f"nearest to {args.nearest!r}:")
        tell(look_inside.nearest(model, tokenizer, args.nearest))
    if args.analogy:
        a, b, c = args.analogy
        print(f"{b!r} - {a!r} + {c!r}:")
        tell(look_inside.analogy(model, tokenizer, args.analogy))
    if args.attention_maps:
        ids = tokenizer.encode(read_prompts(args)[0], disallowed_special=())
        most = min(40, model.config.block_size)
        if not 0 < len(ids) <= most:
            raise UserError(f"the text has {len(ids)} tokens: maps of 1 to {most} can be read; give one with -p")
        words = [visible(tokenizer.decode([i])) for i in ids]
        maps = look_inside.attention_maps(model, torch.tensor([ids], device=model.head_weight.device))
        layers = range(len(maps)) if len(maps) <= 4 else (0, len(maps) // 2, len(maps) - 1)
        save_figure(draw_maps({f"layer {i + 1}": maps[i].cpu() for i in layers}, words), args.attention_maps)
        print(f"attention maps of layers {', '.join(str(i + 1) for i in layers)} of {len(maps)}:"
              f" {flags.shown(args.attention_maps)}")


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
    group = parser.add_argument_group("to look inside instead of writing")
    group.add_argument("--nearest", metavar="WORD", help="the tokens whose embeddings are nearest to a word's")
    group.add_argument("--analogy", nargs=3, metavar=("A", "B", "C"), help="what is to C as B is to A, by embeddings")
    group.add_argument("--attention_maps", metavar="PNG",
                       help="draw what each head looks at in the prompt: in all layers, or the first, middle and last")
    generation_flags(parser, "nothing, a new document begins")
    flags.machine_flags(parser)
    parser.add_argument("--compile", action="store_true", help="let torch.compile rewrite a token's step, which takes"
                                                               " a minute or two and needs a C++ compiler")
    args = parser.parse()
    check_generation(args)
    if (args.text is not None or args.prompt is not None) + bool(args.prompts) + args.interactive > 1:
        raise UserError("a prompt, --prompts and --interactive exclude each other: choose one")
    if args.interactive and max(args.samples, args.best_of, args.beams) > 1:
        raise UserError("--interactive shows one answer as it comes: leave out --samples, --best_of and --beams")
    texts = read_prompts(args)
    if args.load_model == str(DEFAULT_CHECKPOINT):
        ensure_model()
    model, dtype, tokenizer = load_model(args.load_model, args)
    if args.nearest or args.analogy or args.attention_maps:
        look(model, tokenizer, args)
        return
    model, dtype = for_writing(model, dtype)
    if args.compile:
        compile_step(model)
    # an answer ends where the model ends it; a sample of our own small models shows what they do then, too
    stop_tokens = tokenizer.end_tokens if args.interactive or is_pretrained(args.load_model) else ()
    if args.interactive:
        converse(model, dtype, tokenizer, args, stop_tokens)
    else:
        prompts = [tokenizer.encode(text, disallowed_special=()) for text in texts]
        write(model, dtype, tokenizer, prompts, args, stop_tokens)


if __name__ == "__main__":
    flags.run(main)
