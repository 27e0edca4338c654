"""How much to hide: mask rates compared at equal time, all asked for the same 15 % of held-out text.

    python 05_bert_mlm/mask_rates.py           # figures/mask_rates.png

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
from compared_runs import draw, model_of, steps_in, trained
from masked_batches import held_out_batches, masked_batches
from mlm_training import check, training_arguments
from prepare import ensure_tokens, open_tokens

HERE = Path(__file__).resolve().parent


def main():
    parser = training_arguments("Train BERT with several mask rates, each for the same time.")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.15, 0.3, 0.4], help="shares that are hidden")
    parser.add_argument("--seconds", type=float, default=180, help="of training, for each")
    parser.add_argument("-o", "--output", default=str(HERE / "figures" / "mask_rates.png"), help="the figure")
    args = parser.parse()
    for rate in args.rates:
        args.mask_rate = rate
        check(args)
    tokenizer = choose_tokenizer(args)
    tokens, val_tokens, _ = open_tokens(ensure_tokens(args.data, tokenizer))
    marks, sizes = Marks.of(tokenizer), (args.batch_size, args.block_size)
    held_out, curves = held_out_batches(val_tokens, marks, *sizes), {}
    for rate in args.rates:
        torch.manual_seed(args.seed)
        model, dtype = model_of(BERT, args, tokenizer)
        batch = masked_batches(tokens, marks, *sizes, args.seed, rate, args.masking)
        name = f"{rate:.0%} hidden"
        steps = steps_in(args.seconds, model, batch, args, dtype)
        curves[name] = trained(model, batch, args, dtype, steps, held_out)
        step, seconds, loss, share = curves[name][-1]
        print(f"{name}: loss {loss:.3f}, {share:.1%} guessed, after {step:,} steps, {seconds:.0f} s")
    draw(curves, {}, args.output, f"15 % of the held-out tokens of {args.data}", "seconds")
    print(f"figure {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
