"""What the softmax becomes when scores are divided by the root of a head's size, of the whole embedding's, or not.

    python 02_attention/score_scale.py

A product of hs numbers of variance 1 has variance hs: undivided, the softmax chooses one key and passes hardly any
gradient to the others (Vaswani et al. 2017, section 3.2.1, footnote 4). The report's original divides by the root of
the embedding's size, as if there were one head: too much, and every head begins as an average of all it sees.
"""

import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from atomic import save_figure
from formulas import softmax


def weights_of(divisor, head_size, key_count, rows=1000, seed=0):
    """Softmax of random scores (rows, keys), each row from its largest to its smallest weight."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(rows, 1, head_size, generator=generator)
    k = torch.randn(rows, key_count, head_size, generator=generator)
    return softmax((q @ k.transpose(1, 2))[:, 0] / divisor).sort(descending=True).values


def spread(weights):
    """How many keys a row really looks at: e^entropy, from 1 to all of them; the mean of the rows."""
    return torch.special.entr(weights).sum(-1).exp().mean().item()


def main():
    parser = flags.Parser("Show what dividing the scores by too little or too much does to the softmax.")
    flags.number_flags(parser, {"embedding_size": 384, "block_size": 256, "head_count": 6})
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "02_score_scale.png"), help="where to draw")
    args = parser.parse()
    flags.check_numbers(args)
    head_size = args.embedding_size // args.head_count

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, divisor in (("nothing", 1.0), (f"root of the head size {head_size}", math.sqrt(head_size)),
                          (f"root of the embedding size {args.embedding_size}", math.sqrt(args.embedding_size))):
        weights = weights_of(divisor, head_size, args.block_size)
        print(f"divided by {name}: scores of deviation {math.sqrt(head_size) / divisor:.2f}, the largest weight is"
              f" {weights[:, 0].mean():.3f}, as if looking at {spread(weights):.1f} of {args.block_size} keys")
        axes.plot(range(1, args.block_size + 1), weights.mean(0), label=f"divided by {name}")
    axes.axhline(1 / args.block_size, color="gray", linestyle=":", label="all keys alike")
    axes.set(xscale="log", yscale="log", ylim=(1e-6, 1.5), xlabel="keys, the likeliest first", ylabel="mean weight")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, args.output)
    print(f"figure {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
