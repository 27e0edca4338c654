"""Why two sides help: BERT beside the same network that sees the left side only, and beside counting.

    python 05_bert_mlm/two_sides.py

The second network is a gpt2-style model of BERT's own parts: a mask hides what comes later, and it learns from every
next token, not from the hidden ones only. Both read as many rows of the text. They are asked for the same tokens of
the held-out text; the one that sees the left side is told what BERT is not, the hidden tokens further to the left.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import flags
from batches import shuffled_batches
from bert_model import BERT
from bert_tokens import Marks, choose_tokenizer
from compared_runs import draw, model_of, trained
from guessers import Guessers
from masked_batches import framed, held_out_batches, masked_batches
from mlm_training import NUMBERS, check, comparison_arguments, guessed
from prepare import ensure_tokens, open_tokens


class LeftOnly(BERT):
    """A BERT whose positions look back only, and which guesses the next token at each."""

    def hidden(self, ids, positions=None, mask=None, segments=None, only=None):
        back = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()  # (T, T)
        return super().hidden(ids, positions, back if mask is None else back & mask, segments, only)


def next_token_batches(tokens, marks, batch_size, block_size, seed):
    """step -> (ids, targets) (B, T), where each target is the next token; none is hidden."""
    pieces = shuffled_batches(tokens, batch_size, block_size - 2, seed)

    def batch(step):
        rows = torch.from_numpy(framed(pieces(step)[0], marks))
        targets = F.pad(rows[:, 1:], (0, 1), value=-100)
        targets[:, -2] = -100  # [SEP] is no part of the text
        return rows, targets

    return batch


def for_left_only(batches):
    """Masked batches -> such in which the hidden tokens are there, and asked for one place to the left of them."""
    return [(torch.where(targets == -100, inputs, targets), F.pad(targets[:, 1:], (0, 1), value=-100))
            for inputs, targets in batches]


def main():
    parser = comparison_arguments("Train BERT and the same network that sees the left side only.",
                                  ("family", "mask_rate", "optimizer", "schedule"), NUMBERS)
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "05_two_sides.png"), help="where to draw")
    args = parser.parse()
    check(args)
    tokenizer = choose_tokenizer(args)
    tokens, val_tokens, _ = open_tokens(ensure_tokens(args.data, tokenizer))
    marks, sizes = Marks.of(tokenizer), (args.batch_size, args.block_size)
    held_out = held_out_batches(val_tokens, marks, *sizes, most=len(val_tokens))
    counting = Guessers(tokens, tokenizer.vocab_size, marks).scores(held_out)
    for name, (loss, share) in counting.items():
        print(f"{name}: loss {loss:.3f}, {share:.1%} guessed")
    few = held_out[: 20_000 // (args.batch_size * args.block_size) + 1]
    curves = {}
    for name, kind, batch, asked in (
        ("both sides (BERT)", BERT, masked_batches(tokens, marks, *sizes, args.seed, args.mask_rate), list),
        ("the left side only", LeftOnly, next_token_batches(tokens, marks, *sizes, args.seed), for_left_only),
    ):
        torch.manual_seed(args.seed)
        model, dtype = model_of(kind, args, tokenizer)
        curves[name] = trained(model, batch, args, dtype, args.steps, asked(few))
        loss, share = guessed(model, asked(held_out), dtype)
        print(f"{name}: loss {loss:.3f}, {share:.1%} guessed, after {curves[name][-1][1]:.0f} s")
    draw(curves, counting, args.output, f"hidden tokens of {args.data}, 15 %")
    print(f"figure {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
