"""How well a model predicts a text that it was not trained on: loss, perplexity and bits per byte.

    python 04_training/perplexity.py -l checkpoints/03_gpt.pt -d pydocs --ngram 5
    python 04_training/perplexity.py -l smollm2 --text wikitext-2/valid.txt --limit 5000

Loss and perplexity are per token, and so compare only models with the same tokens. Bits per byte compare any two
models on the same text. What a validation split is depends on the tokenizer a little, because it is the last tenth
of the tokens: --text takes a whole text instead, the same for every model.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
from evaluation import autocast, evaluating
from fine_tuning import load_model
from flags import UserError
from linear_cross_entropy import linear_cross_entropy
from lm_model import DEFAULT_CHECKPOINT, ensure_model
from ngram import HEADER, check, print_ngrams, row, text_bytes
from prepare import ensure_tokens, open_data, open_tokens
from trainer import MICRO_BATCH

WINDOW = 1024  # tokens at most, unless asked for: attention over the 8,192 of a real model is slow without a GPU


def windows(tokens, block_size, stride, rows):
    """Yield (ids, targets), each (B, T), of windows that begin every `stride` tokens; -100 where nothing is scored.

    A window of block_size tokens scores those that the window before it did not reach: tokens a to f, block_size 4,
    stride 2: abcd scores b, c, d; cdef scores e, f.
    """
    starts = np.arange(0, max(1, len(tokens) - block_size + stride), stride)
    whole = starts[starts + block_size <= len(tokens)]
    batches = [whole[i : i + rows] for i in range(0, len(whole), rows)]
    if len(whole) < len(starts):  # the last one is shorter
        batches.append(starts[-1:])
    for first in batches:
        length = min(block_size, len(tokens) - int(first[-1]))
        pieces = torch.from_numpy(np.stack([tokens[i : i + length] for i in first]).astype(np.int64))
        ids, targets = pieces[:, :-1], pieces[:, 1:]  # (B, T), T = length - 1
        seen = torch.arange(length - 1) < block_size - stride - 1
        yield ids, targets.masked_fill(seen & torch.from_numpy(first > 0)[:, None], -100)


@torch.no_grad()
def score(model, tokens, block_size, stride, dtype=torch.float32):
    """(total loss in nats, how many tokens it is of): of all tokens but the first, each once, without dropout.

    Each is predicted from at least block_size - stride tokens before it (near the beginning, from all there are), and
    from block_size - 1 at most, as "Perplexity of fixed-length models" in transformers' documentation has it. Raises
    UserError for windows that the model can't read, or that leave gaps.
    """
    if not 1 <= stride < block_size <= model.config.block_size + 1:  # the last token of a window is never read
        raise UserError(f"window {block_size:,} and stride {stride:,}: the stride must be at least 1, the window larger"
                        f" than it, and no larger than the model's block_size of {model.config.block_size:,}")
    device, total, count = model.head_weight.device, 0.0, 0
    rows = max(1, MICRO_BATCH.get(device.type, 4096) // block_size)
    bar = tqdm(total=len(tokens) - 1, unit=" tokens", leave=False, disable=None)  # on a screen only
    with bar, evaluating(model), autocast(device, dtype):
        for ids, targets in windows(tokens, block_size, stride, rows):
            scored = (targets != -100).to(device)
            hidden = model.hidden(ids.to(device))[scored]  # (scored, C): no logits of what is not
            loss = linear_cross_entropy(hidden, model.head_weight, targets.to(device)[scored])
            total += loss.item() * len(hidden)
            count += len(hidden)
            bar.update(len(hidden))
    return total, count


def main():
    parser = flags.Parser("Score a model on a text: loss, perplexity, bits per byte.")
    parser.add_argument("-l", "--load_model", metavar="PATH", default=str(DEFAULT_CHECKPOINT),
                        help="a checkpoint, whole or adapters, or a folder, file or name of real weights")
    parser.add_argument("-d", "--data", default="pydocs",
                        help="the corpus, file, folder, or prepared tokens, of which the validation split is scored")
    parser.add_argument("--text", help="a corpus, file or folder that is scored from beginning to end, instead of -d's"
                                       " validation split")
    parser.add_argument("--window", type=int, metavar="TOKENS",
                        help=f"that the model sees at a time (default: its block_size, but at most {WINDOW:,})")
    parser.add_argument("--stride", type=int, metavar="TOKENS",
                        help="from one window to the next; fewer give more context and take longer (default: half a"
                             " window)")
    parser.add_argument("--limit", type=int, metavar="TOKENS", help="to score, for a quick look (default: all)")
    parser.add_argument("--ngram", type=int, metavar="ORDER",
                        help="score n-gram models up to that order too, trained on -d's training split")
    flags.machine_flags(parser, seed=False)
    args = parser.parse()
    flags.check_ranges(args, limit=1)
    if args.load_model == str(DEFAULT_CHECKPOINT):
        ensure_model()
    model, dtype, tokenizer = load_model(args.load_model, args)
    if args.text is None or args.ngram is not None:
        _, train_tokens, tokens = open_data(args, tokenizer.state(), args.load_model)
        name = f"the validation split of {args.data}"
    if args.text is not None:
        *parts, _ = open_tokens(ensure_tokens(args.text, tokenizer))
        tokens, name = np.concatenate(parts), args.text
    tokens = tokens[: args.limit + 1] if args.limit else tokens
    check(tokens, 1 if args.ngram is None else args.ngram, name)
    window = min(model.config.block_size, WINDOW) if args.window is None else args.window
    stride = window // 2 if args.stride is None else args.stride
    size = text_bytes(tokens, tokenizer)
    print(f"{len(tokens) - 1:,} tokens, {size:,} bytes, of {name}; window {window:,}, stride {stride:,}")
    print(HEADER)
    began = time.perf_counter()
    nats, count = score(model, tokens, window, stride, dtype)
    print(row(Path(args.load_model).name, nats, count, size, time.perf_counter() - began), flush=True)
    if args.ngram is not None:
        print_ngrams(train_tokens, tokens, args.ngram, tokenizer)


if __name__ == "__main__":
    flags.run(main)
