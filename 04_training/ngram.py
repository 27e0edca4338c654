"""N-gram models: how well counting alone predicts a text, the mark that a neural model has to beat.

    python 04_training/ngram.py -d tinyshakespeare -t char --ngram 5
    python 04_training/ngram.py -d pydocs --ngram 3

All orders up to that one are trained on the training split and scored on all of the validation split. Of tiny
Shakespeare by characters, 5-grams with plain counts reach 1.690 nats, and with Kneser and Ney's counts 1.564.
"""

import math
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
import flags
from flags import UserError
from prepare import open_data

DISCOUNT = 0.85  # the best of 0.6, 0.65 ... 0.95 on the last tenth of tiny Shakespeare's training split, 5 characters
HEADER = f"{'':20}{'nats/token':>12}{'perplexity':>12}{'bits/byte':>12}{'seconds':>10}"


class Ngram:
    """Interpolated absolute discounting: take D from each count, and let shorter contexts share out what was taken.

    p(w | h) = (max(c(hw) - D, 0) + D N(h) p(w | h')) / c(h), and p(w | h') where c(h) = 0: c counts, N(h) is how many
    different tokens follow h, and h' is h without its oldest token; before the first order all V tokens are alike.
    With `kneser_ney`, c of all orders but the highest is how many different tokens stand before hw.
    Ney, Essen and Kneser 1994, "On Structuring Probabilistic Dependences in Stochastic Language Modelling"; Kneser and
    Ney 1995, "Improved Backing-off for M-gram Language Modeling"; Chen and Goodman 1999, "An Empirical Study of
    Smoothing Techniques for Language Modeling", sections 2.6 and 2.7.
    """

    def __init__(self, tokens, order, vocab_size, discount=DISCOUNT, kneser_ney=False):
        self.vocab_size, self.levels = vocab_size, []
        tokens, numbered = np.asarray(tokens, np.int64), []
        which, contexts = np.zeros(len(tokens) + 1, np.int64), 1  # the empty context, before each token and at the end
        for n in range(order):
            # numbering contexts 0, 1, ... keeps an n-gram of any order one number, context * V + token, in 64 bits
            shorter = which
            keys = shorter[:-1] * vocab_size + tokens[n:]
            grams, which, counts = np.unique(keys, return_inverse=True, return_counts=True)
            if n and kneser_ney:
                ending = np.zeros(len(grams), np.int64)
                ending[which] = shorter[1:]  # each of these n-grams without its oldest token
                numbered[-1][1] = np.bincount(ending, minlength=contexts)
            numbered.append([grams, counts, contexts])
            contexts = len(grams)
        for grams, counts, contexts in numbered:
            of = grams // vocab_size  # the context of each n-gram
            total = np.bincount(of, counts, contexts)  # c(h)
            taken = np.bincount(of, np.minimum(counts, discount), contexts)  # D N(h)
            share = np.maximum(counts - discount, 0) / np.maximum(total, 1)[of]
            rest = np.where(total > 0, taken / np.maximum(total, 1), 1)
            # index -1 means what training has not seen: it has no share, and its context leaves all to shorter ones
            self.levels.append((np.append(grams, np.iinfo(np.int64).max), np.append(share, 0), np.append(rest, 1)))

    def find(self, grams, context, tokens):
        """The number of each n-gram (context and token), -1 for those that training has not seen."""
        wanted = context * self.vocab_size + tokens
        at = np.searchsorted(grams, wanted)
        return np.where(grams[at] == wanted, at, -1)

    def log_probabilities(self, tokens):
        """(N,) -> (N - 1,): the natural log-probability of each token but the first, given those before it."""
        tokens = np.asarray(tokens, np.int64)
        probability = np.full(len(tokens), 1 / self.vocab_size)
        context = np.zeros_like(tokens)
        for n, (grams, share, rest) in enumerate(self.levels):  # the first n tokens have no n before them
            found = self.find(grams, context, tokens[n:])
            probability[n:] = share[found] + rest[context] * probability[n:]
            context = found[:-1]
        return np.log(probability[1:])

    def next(self, context):
        """The probability (V,) of each token after those of a list; only its last order - 1 count."""
        probability = np.full(self.vocab_size, 1 / self.vocab_size)
        for n, (grams, share, rest) in enumerate(self.levels[: len(context) + 1]):
            number = 0
            for (shorter, _, _), token in zip(self.levels, context[len(context) - n :]):
                number = int(self.find(shorter, number, token))
            first, end = np.searchsorted(grams, [number * self.vocab_size, (number + 1) * self.vocab_size])
            probability *= rest[number]
            probability[grams[first:end] - number * self.vocab_size] += share[first:end]
        return probability


def text_bytes(tokens, tokenizer):
    """How many bytes of text the tokens after the first are; the ends of documents are none."""
    scored = np.asarray(tokens[1:])
    return len(tokenizer.decode_bytes(scored[scored != tokenizer.end_of_text].tolist()))


def row(name, nats, count, size, seconds):
    """A line under HEADER: of `count` tokens, together `size` bytes, that cost so many nats."""
    loss, bits = nats / count, nats / math.log(2) / max(size, 1)
    return f"{name:20}{loss:12.4f}{math.exp(min(loss, 700)):12.2f}{bits:12.4f}{seconds:10.2f}"


def print_ngrams(train_tokens, tokens, highest, tokenizer):
    """Train and score all orders up to the highest, and that one with Kneser-Ney's counts; print the row of each."""
    size = text_bytes(tokens, tokenizer)
    for order, kneser_ney in [*((n, False) for n in range(1, highest + 1)), (highest, True)]:
        began = time.perf_counter()
        model = Ngram(train_tokens, order, tokenizer.vocab_size, kneser_ney=kneser_ney)
        nats = -model.log_probabilities(tokens).sum()
        name = f"{order}-gram" + ", Kneser-Ney" * kneser_ney
        print(row(name, nats, len(tokens) - 1, size, time.perf_counter() - began), flush=True)


def check(tokens, order, name):
    """Raise UserError if there is nothing to score, or no such n-grams."""
    if order < 1:
        raise UserError(f"order {order} must be at least 1")
    if len(tokens) < 2:
        raise UserError(f"{name} has {len(tokens)} tokens to score: give a longer text")


def main():
    parser = flags.Parser("Train n-gram models on a text, and score them on its validation split.")
    flags.text_flags(parser)
    parser.add_argument("--ngram", type=int, metavar="ORDER", default=5, help="the highest: tokens of an n-gram")
    args = parser.parse()
    tokenizer, train_tokens, val_tokens = open_data(args)
    check(val_tokens, args.ngram, f"the validation split of {args.data}")
    print(f"{len(train_tokens):,} training and {len(val_tokens):,} validation tokens of {args.data}")
    print(HEADER)
    print_ngrams(train_tokens, val_tokens, args.ngram, tokenizer)


if __name__ == "__main__":
    flags.run(main)
