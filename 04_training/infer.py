"""Let a trained model go on from a prompt, talk with it, or hear what several models answer.

    python 04_training/infer.py "The with statement"
    python 04_training/infer.py -p "Once upon a time" -l stories.pt --drafts
    python 04_training/infer.py --chat
    python 04_training/infer.py --chat -l smollm2
    python 04_training/infer.py "What does shlex.quote do?" --compare checkpoints/04_training.pt checkpoints/04_sft.pt

A prompt alone is gone on with twice: drawn by chance, and looked for by beam search.
"""

import sys
import time
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import checkpoint
import flags
from chat import compare, converse
from evaluation import autocast
from fast_decode import for_writing
from fine_tuning import load_model
from flags import UserError
from multi_token import MultiTokenPrediction, write_with_drafts
from pretraining import ensure_model
from sampling import Sampling, complete
from sft import ensure_sft
from writing import write
from writing_flags import check_generation, generation_flags


def draft(path, model, tokenizer, prompt, count):
    """Write with the second head that the checkpoint has, and without it; the text is the same."""
    contents = checkpoint.load(path, "gpt")
    if "multi_token" not in contents:
        raise UserError(f"{path} has no second head for --drafts: train it with --multi_token 0.3")
    predictor = MultiTokenPrediction(model).to(model.head_weight.device)
    predictor.load_state_dict(contents["multi_token"], strict=False)
    room = model.config.block_size - 1
    if len(prompt) + count > room:
        raise UserError(f"--drafts has room for {room} tokens, prompt and -n together: these are {len(prompt) + count}")
    began = time.perf_counter()
    new, right, drafts = write_with_drafts(predictor, prompt, count)
    with_drafts, began = time.perf_counter() - began, time.perf_counter()
    complete(model, [prompt], count, Sampling(temperature=0))
    without = time.perf_counter() - began
    print(f"---- the likeliest tokens\n{tokenizer.decode([*prompt, *new])}")
    print(f"---- {right} of {drafts} drafts right: {with_drafts:.2f} s with them, {without:.2f} s without")


def two_ways(args):
    """What the flags say of drawing by chance, and of beam search. Raises UserError for values of no meaning."""
    drawn = Namespace(**vars(args) | {"beams": 1, "length_penalty": 1.0, "early_stopping": False})
    searched = Namespace(**vars(args) | {"beams": 4 if args.beams == 1 else args.beams, "samples": 1, "best_of": 1,
                                         "logprobs": False, "stats": False})
    for each in (drawn, searched):
        check_generation(each)
    return {"drawn by chance": drawn, f"beam search, {searched.beams} beams": searched}


def several(args):
    """(name, model, dtype, tokenizer) of each model of --compare."""
    for name in args.compare:
        model, dtype, tokenizer = load_model(name, args)
        yield Path(name).name, model, dtype, tokenizer


def main():
    parser = flags.Parser("Let a trained model go on from a prompt, or answer.")
    parser.add_argument("text", nargs="?", help="the prompt, if not given with -p")
    parser.add_argument("-l", "--load_model", metavar="PATH",
                        help="a checkpoint, whole or adapters, or a folder, file or name of real weights (default: what"
                             " 04_training/train.py made, or with --chat what 04_training/sft.py made)")
    parser.add_argument("--chat", action="store_true", help="talk, with all that was said in mind; /reset forgets it")
    parser.add_argument("--system", metavar="TEXT", help="what --chat tells the model beforehand")
    parser.add_argument("--compare", nargs="+", metavar="PATH", help="let these models answer, side by side")
    parser.add_argument("--drafts", action="store_true", help="write with the second head of --multi_token instead")
    generation_flags(parser, "nothing, a new document begins", max_new_tokens=None)
    flags.machine_flags(parser)
    args = parser.parse()
    text = args.prompt if args.prompt is not None else args.text
    if args.chat + bool(args.compare) + args.drafts > 1:
        raise UserError("--chat, --compare and --drafts exclude each other: choose one")
    if (args.chat or args.compare) and max(args.samples, args.best_of, args.beams) > 1:
        raise UserError("one answer is shown: leave out --samples, --best_of and --beams")
    if args.chat and text:
        raise UserError("--chat asks for what you type: leave the question out, or ask it with --compare")
    if args.max_new_tokens is None and not args.chat:
        args.max_new_tokens = 60
    if args.system and not args.chat:
        raise UserError("--system is for --chat: add it, or leave it out")
    ways = two_ways(args)
    if args.compare:
        if not text:
            raise UserError("--compare needs a question: give one with -p")
        compare(list(several(args)), text, args)
        return
    path = args.load_model or str(ensure_sft() if args.chat else ensure_model())
    model, dtype, tokenizer = load_model(path, args)
    if args.chat:
        converse(*for_writing(model, dtype), tokenizer, args, args.system)
        return
    prompt = tokenizer.encode(text or "", disallowed_special=()) or [tokenizer.end_of_text]
    if args.drafts:
        with autocast(model.head_weight.device, dtype):
            draft(path, model, tokenizer, prompt, args.max_new_tokens)
        return
    for name, chosen in ways.items():
        print(f"======== {name}")
        write(model, dtype, tokenizer, [prompt], chosen, (tokenizer.end_of_text, *tokenizer.end_tokens))


if __name__ == "__main__":
    flags.run(main)
