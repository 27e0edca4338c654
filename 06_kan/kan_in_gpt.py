"""A KAN in a language model: the feed-forward layers of chapter 3's GPT, with as many parameters, on the same text.

    python 06_kan/kan_in_gpt.py                 # fifteen minutes on one core
    python 06_kan/kan_in_gpt.py 128 8 64 3e-3 300 --seeds 1337

Changes from 03_gpt: `block.feed_forward`, which is called with what is known at each position, (B, T, C) -> (B, T, C).
"""

import sys
import time
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
import measure
import trainer
from evaluation import evaluate
from flags import UserError
from gpt import GPT, GPTConfig
from kan_layer import KAN
from prepare import open_data

NUMBERS = {"embedding_size": 128, "batch_size": 8, "block_size": 64, "learning_rate": 3e-3, "steps": 1500,
           "head_count": 4, "layer_count": 2, "dropout": 0.0}  # those of 03_gpt/lm_model.py, half as many steps


def arguments():
    parser = flags.Parser("Train chapter 3's GPT with its own feed-forward layers and with KANs in their place.")
    flags.text_flags(parser)
    flags.number_flags(parser, NUMBERS)
    parser.add_argument("--grid_size", type=int, default=5, help="cells of each curve")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1337, 1338, 1339], metavar="N", help="one run each")
    return parser


def with_kans(model, batch, grid_size):
    """Put a KAN of about as many parameters in the place of each feed-forward layer, its grids where its inputs are."""
    C = model.config.embedding_size
    for block in model.blocks:
        count = sum(weight.numel() for weight in block.feed_forward.parameters())
        kan = KAN([C, max(1, round(count / (2 * C * (grid_size + 4)))), C], grid_size)
        seen = []
        block.feed_forward.register_forward_hook(lambda layer, inputs, output, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            model(batch(0)[0])
        kan.update_grids(seen[0].flatten(0, 1))
        block.feed_forward = kan
    return model


def run(kind, args, seed, vocab_size, train_tokens, val_tokens):
    """(parameters, validation loss, ms of one processor a step) of one training; None after Ctrl-C."""
    torch.manual_seed(seed)
    sizes = args.embedding_size, args.block_size, args.head_count, args.layer_count
    batch = trainer.random_batches(train_tokens, args.batch_size, args.block_size, seed)
    model = GPT(GPTConfig(vocab_size, *sizes, args.dropout))
    if kind == "KAN":
        model = with_kans(model, batch, args.grid_size)

    def validate(most: int | None = 20_000):
        return evaluate(model, val_tokens, args.batch_size, args.block_size, most=most)

    began = time.process_time()
    history = trainer.train(model, batch, trainer.make_optimizer(model, args.learning_rate),
                            trainer.warmup_cosine(args.learning_rate, args.steps), args.steps, validate, seed=seed)
    if history is None:
        sys.exit(130)
    milliseconds = 1000 * (time.process_time() - began) / args.steps
    loss = validate(most=None)
    print(f"{kind}, seed {seed}: {model.parameter_count():,} parameters, validation loss {loss:.3f},"
          f" {milliseconds:.1f} ms a step", flush=True)
    return model.parameter_count(), loss, milliseconds


def main():
    args = arguments().parse()
    flags.check_numbers(args)
    flags.check_ranges(args, grid_size=1)
    torch.set_num_threads(1)
    tokenizer, train_tokens, val_tokens = open_data(args, None, "")
    if len(train_tokens) <= args.block_size:
        raise UserError(f"{args.data} is too short for a block_size of {args.block_size}: give a longer text")
    lines = []
    for kind in ("MLP", "KAN"):
        runs = [run(kind, args, seed, tokenizer.vocab_size, train_tokens, val_tokens) for seed in args.seeds]
        losses = " ".join(f"{loss:.3f}" for _, loss, _ in runs)
        lines.append(f"| {kind} | {runs[0][0]:,} | {losses} | {mean(each for *_, each in runs):.1f} |")
    print(f"\n{args.data}, {args.steps:,} steps, seeds {' '.join(map(str, args.seeds))}; {measure.machine('torch')}\n")
    print("| feed-forward | parameters | validation loss, each seed | ms of a processor a step |\n|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    flags.run(main)
