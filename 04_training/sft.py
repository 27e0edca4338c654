"""Supervised fine-tuning: a model that goes on with any text becomes one that answers.

    python 04_training/sft.py
    python 04_training/sft.py -l smollm2 --lora
    python 04_training/sft.py -d my_conversations.jsonl
    python 04_training/sft.py --show 1                     # one example, token by token, and what of it counts

The loss is pretraining's, L = - mean log P(x_k | x_1 ... x_k-1), but over the tokens of answers alone, the one that
ends an answer among them: a model that never learns it never stops.
Ouyang et al. 2022, "Training language models to follow instructions with human feedback", section 3.5.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
from chat_data import conversations
from chat_template import conversation_tokens
from checkpoint import ensured
from evaluation import autocast, evaluating
from fine_tuning import begin, fine_tune, fine_tuning_flags, open_model
from flags import UserError
from packing import fill_rows, packed, packed_batches
from pretraining import ensure_model

NUMBERS = {"batch_size": 8, "block_size": 256, "learning_rate": 1e-3, "steps": 170, "dropout": 0.1}
REAL_NUMBERS = {"batch_size": 4, "block_size": 256, "learning_rate": 5e-4, "steps": 60, "dropout": 0.0}
DEFAULT_CHECKPOINT = flags.CHECKPOINTS / "04_sft.pt"


def arguments():
    parser = flags.Parser("Teach a model to answer, by examples.")
    fine_tuning_flags(parser, "sft", "docs", NUMBERS, REAL_NUMBERS, "what 04_training/train.py made")
    parser.add_argument("--show", type=int, metavar="N", default=0,
                        help="examples to print token by token, instead of training")
    return parser


def examples(talks, tokenizer, block_size, name="the data"):
    """(ids, counted) of each conversation that fits into a block. Raises UserError if none does."""
    found = [conversation_tokens(messages, tokenizer) for messages in talks]
    short = [(ids, counted) for ids, counted in found if len(ids) - 1 <= block_size]
    if len(short) < len(found):
        print(f"{len(found) - len(short):,} of {len(found):,} conversations of {name} are longer than block_size"
              f" {block_size}: left out")
    if not short:
        raise UserError(f"no conversation of {name} fits into block_size {block_size}: give a larger one")
    return short


@torch.no_grad()
def answer_loss(model, held_out, batch_size, block_size, dtype=torch.float32):
    """Mean loss over the answers' tokens of some examples, without dropout."""
    device, total, count = model.head_weight.device, 0.0, 0
    rows = [[held_out[n] for n in row] for row in fill_rows([len(ids) - 1 for ids, _ in held_out], block_size)]
    with evaluating(model), autocast(device, dtype):
        for i in range(0, len(rows), batch_size):
            ids, targets, positions, mask = (part.to(device) for part in packed(rows[i : i + batch_size], block_size))
            counted = (targets != -100).sum().item()
            _, loss = model(ids, targets, positions, mask)
            total, count = total + loss.item() * counted, count + counted
    return total / count


def show(tokenizer, messages):
    """Print a conversation token by token; what the loss counts stands behind a bar."""
    for token, counts in zip(*conversation_tokens(messages, tokenizer)):
        print(f"{token:8} {'|' if counts else ' '} {tokenizer.decode([token])!r}")


def train_command(args):
    """Train as the flags say; returns the history, or None after Ctrl-C."""
    start = begin(args, "sft", NUMBERS, REAL_NUMBERS, ensure_model)
    model, tokenizer = start.model, start.tokenizer
    train, held_out = (examples(conversations(args.data, split), tokenizer, args.block_size, f"{args.data}, {split},")
                       for split in ("train", "validation"))
    print(f"{len(train):,} conversations to learn from, {len(held_out):,} held out, of {args.data}")

    def validate(most=10 * args.batch_size):
        return answer_loss(model, held_out[:most], args.batch_size, args.block_size, start.dtype)

    batch = packed_batches(train, args.batch_size, args.block_size, args.seed)
    history = fine_tune(start, args, "sft", batch, validate)
    if history is not None:
        print(f"loss of all held-out answers {validate(most=None):.3f}")
    return history


def ensure_sft():
    """The path of the default checkpoint; if there is none, it is trained now."""
    return ensured(DEFAULT_CHECKPOINT, lambda words: train_command(arguments().parse(words)), "gpt", "adapters",
                   first="teaching a model to answer first (04_training/sft.py)")


def main():
    args = arguments().parse()
    flags.check_ranges(args, show=0)
    if args.show:
        some = conversations(args.data, "train")[: args.show]
        _, tokenizer, _ = open_model(args.load_model or ensure_model())
        for messages in some:
            show(tokenizer, messages)
    elif train_command(args) is None:
        sys.exit(130)


if __name__ == "__main__":
    flags.run(main)
