"""How much to hide: mask rates compared at equal time, all asked for the same 15 % of held-out text.

    python 05_bert_mlm/mask_rates.py

More hidden tokens teach more at a time, and leave less to learn from. Wettig et al. 2023, "Should You Mask 15% in
Masked Language Modeling?", found 40 % better for large models.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
import flags
from bert_model import BERT
from bert_tokens import Marks, choose_tokenizer
from compared_runs import draw, model_of, seconds_a_step, trained
from masked_batches import held_out_batches, masked_batches
from mlm_training import NUMBERS, check, comparison_arguments
from prepare import ensure_tokens, open_tokens

ROUNDS = 3


def main():
    numbers = {name: value for name, value in NUMBERS.items() if name != "steps"}  # time decides how many
    parser = comparison_arguments("Train BERT with several mask rates, each for the same time.",
                                  ("family", "masking", "optimizer", "schedule"), numbers)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.15, 0.3, 0.4], help="shares that are hidden")
    parser.add_argument("--seconds", type=float, default=180, help="of training, for each")
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "05_mask_rates.png"), help="where to draw")
    args = parser.parse()
    for rate in args.rates:
        args.mask_rate = rate
        check(args)
    tokenizer = choose_tokenizer(args)
    tokens, val_tokens, _ = open_tokens(ensure_tokens(args.data, tokenizer))
    marks, sizes = Marks.of(tokenizer), (args.batch_size, args.block_size)
    held_out, curves = held_out_batches(val_tokens, marks, *sizes), {}
    batches = {rate: masked_batches(tokens, marks, *sizes, args.seed, rate, args.masking) for rate in args.rates}
    model, dtype = model_of(BERT, args, tokenizer)
    times = {rate: [] for rate in args.rates}
    for rate in args.rates * ROUNDS:  # in turn, and the fastest of each: other work only makes them slower
        times[rate].append(seconds_a_step(model, batches[rate], args, dtype))
    for rate, batch in batches.items():
        torch.manual_seed(args.seed)
        model, dtype = model_of(BERT, args, tokenizer)
        a_step = min(times[rate])
        rows = trained(model, batch, args, dtype, max(1, round(args.seconds / a_step)), held_out)
        name = f"{rate:.0%} hidden"
        curves[name] = [(step, step * a_step, loss, share) for step, _, loss, share in rows]
        print("{}: loss {:.3f}, {:.1%} guessed, after {:,} steps of {:.3f} s".format(
            name, *rows[-1][2:], rows[-1][0], a_step))
    draw(curves, {}, args.output, f"15 % of the held-out tokens of {args.data}", "seconds")
    print(f"figure {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
