"""Let a pretrained model go on from a prompt: drawn by chance, and looked for by beam search, side by side.

    python 04_training/infer.py "The with statement"
    python 04_training/infer.py -p "Once upon a time" -l stories.pt --drafts
"""

import sys
import time
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import checkpoint
import flags
from flags import UserError
from lm_model import load_model
from multi_token import MultiTokenPrediction, write_with_drafts
from pretraining import DEFAULT_CHECKPOINT, ensure_model
from sampling import Sampling, complete
from trainer import autocast
from writing import write


def draft(path, model, tokenizer, prompt, count):
    """Write with the second head that the checkpoint has, and without it; the text is the same."""
    contents = checkpoint.load(path, "gpt")
    if "multi_token" not in contents:
        raise UserError(f"{path} has no second head for --drafts: train it with --multi_token 0.3")
    predictor = MultiTokenPrediction(model).to(model.head_weight.device)
    predictor.load_state_dict(contents["multi_token"], strict=False)
    began = time.perf_counter()
    new, right, drafts = write_with_drafts(predictor, prompt, count)
    with_drafts, began = time.perf_counter() - began, time.perf_counter()
    complete(model, [prompt], count, Sampling(temperature=0))
    without = time.perf_counter() - began
    print(f"---- the likeliest tokens\n{tokenizer.decode([*prompt, *new])}")
    print(f"---- {right} of {drafts} drafts right: {with_drafts:.2f} s with them, {without:.2f} s without")


def main():
    parser = flags.Parser("Let a pretrained model go on from a prompt, by chance and by beam search.")
    parser.add_argument("text", nargs="?", help="the prompt, if not given with -p")
    parser.add_argument("-l", "--load_model", metavar="PATH", default=str(DEFAULT_CHECKPOINT),
                        help="the checkpoint, or a folder, file or name of real weights")
    parser.add_argument("--drafts", action="store_true", help="write with the second head of --multi_token instead")
    flags.generation_flags(parser, "nothing, a new document begins", max_new_tokens=60)
    flags.machine_flags(parser)
    args = parser.parse()
    beams, args.beams = 4 if args.beams == 1 else args.beams, 1
    flags.check_generation(args)
    if args.load_model == str(DEFAULT_CHECKPOINT):
        args.load_model = str(ensure_model())
    model, dtype, tokenizer = load_model(args)
    text = args.prompt if args.prompt is not None else args.text or ""
    prompt = tokenizer.encode(text, disallowed_special=()) or [tokenizer.end_of_text]
    if args.drafts:
        with autocast(model.head_weight.device, dtype):
            draft(args.load_model, model, tokenizer, prompt, args.max_new_tokens)
        return
    searched = Namespace(**vars(args) | {"beams": beams, "samples": 1, "best_of": 1, "logprobs": False})
    for name, chosen in (("drawn by chance", args), (f"beam search, {beams} beams", searched)):
        print(f"======== {name}")
        write(model, dtype, tokenizer, [prompt], chosen, (tokenizer.end_of_text,))


if __name__ == "__main__":
    flags.run(main)
