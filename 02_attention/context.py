"""Loss against position in the context, for attention and for the recurrent network that stood there before it.

    python 02_attention/context.py

The report: "predecessors all suffered from similar shortcomings: context length". A recurrent network carries
everything in one state; attention looks at each token anew. Both models are the same but for their layers, have
about as many parameters, and train for the same time: on documentation, and on random segments that are repeated.
Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 3.2.1 and figure 7.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
import flags
from atomic import save_figure
from attention_model import AttentionModel
from induction import VOCAB, repeated
from prepare import ensure_tokenizer, ensure_tokens, open_tokens
from timed_training import train_for

SIZE, LENGTH, PERIOD = 128, 256, 96
LAYERS = {"grouped_query": 2, "recurrent": 1}  # of 3 C^2 and 6 C^2 parameters


def documentation(seed):
    """Python's documentation: its vocabulary's size, a function that gives training batches, what is tested on.

    A batch is ids (B, T + 1), and which of the last T are to be learned (B, T).
    """
    tokenizer = ensure_tokenizer("tokenizer", None, "pydocs")
    train_tokens, val_tokens, _ = open_tokens(ensure_tokens("pydocs", tokenizer))

    def pieces(tokens, batch_size, generator):
        starts = generator.integers(len(tokens) - LENGTH, size=batch_size)
        return torch.from_numpy(np.stack([tokens[i : i + LENGTH + 1] for i in starts]).astype(np.int64))

    places = np.random.default_rng(seed)
    test = pieces(val_tokens, 1024, np.random.default_rng(10_000))
    everything = torch.ones(8, LENGTH, dtype=torch.bool)
    return tokenizer.vocab_size, lambda: (pieces(train_tokens, 8, places), everything), test


def segments(seed):
    """The same of random segments, each repeated at a period of its own, of which what repeats is learned."""
    generator = torch.Generator().manual_seed(seed)
    test, _, _ = repeated(256, torch.Generator().manual_seed(10_000), LENGTH, PERIOD, PERIOD)
    return VOCAB, lambda: repeated(8, generator, LENGTH, 8, LENGTH // 2)[:2], test


@torch.no_grad()
def loss_by_position(model, ids):
    """The mean loss at each position of ids (N, T + 1): (T,)."""
    model.eval()
    losses = []
    for rows in ids.split(16):
        logits, _ = model(rows[:, :-1])
        losses.append(F.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none"))
    return torch.cat(losses).mean(0)


def trained_losses(kind, corpus, seconds, seed):
    """Train a model of one kind of layer on a corpus, and return its loss at each position."""
    vocab_size, batch, test = corpus(seed)
    torch.manual_seed(seed)
    model = AttentionModel(vocab_size, SIZE, LENGTH, 4, LAYERS[kind], kind)

    def batch_loss():
        ids, learned = batch()
        logits, _ = model(ids[:, :-1])
        return F.cross_entropy(logits[learned], ids[:, 1:][learned])

    steps = train_for(model, batch_loss, seconds=seconds)
    losses = loss_by_position(model, test)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"    {kind}: {count:,} parameters, {steps:,} steps, loss {losses.mean():.3f}", flush=True)
    return losses


def main():
    parser = flags.Parser("Draw the loss against the position in the context, of attention and a recurrent network.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training for each model on documentation;"
                        " half of it on repeated segments")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="one run each")
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "02_context.png"), help="where to draw")
    args = parser.parse()
    if not args.seconds > 0:
        raise flags.UserError("seconds must be more than 0")

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = [0, 1, 2, 4, 8, 16, 32, 64, 128, LENGTH]  # positions whose losses are taken together
    for seed in args.seeds:
        for kind, colour in (("grouped_query", "tab:blue"), ("recurrent", "tab:orange")):
            label = kind if seed == args.seeds[0] else None
            print(f"seed {seed}, documentation")
            losses = trained_losses(kind, documentation, args.seconds, seed)
            means = [losses[a:b].mean().item() for a, b in zip(edges, edges[1:])]
            left.plot(edges[1:], means, "o-", markersize=3, color=colour, label=label)
            print(f"    up to position {', '.join(f'{edge}: {mean:.2f}' for edge, mean in zip(edges[1:], means))}")
            print(f"seed {seed}, random segments that are repeated")
            losses = trained_losses(kind, segments, args.seconds / 2, seed)
            right.plot(range(PERIOD + 1, LENGTH + 1), losses[PERIOD:], color=colour, label=label)
            print(f"    {losses[PERIOD:].mean():.2f} once the segment has begun again")
    left.set(xscale="log", xlabel="position", ylabel="loss (nats per token)", title="held-out documentation")
    left.set_xticks(edges[1:], edges[1:])
    right.set(xlabel="position", ylabel="loss (nats per token)", xlim=(0, LENGTH),
              title=f"the second round of {PERIOD} random tokens, and on")
    right.axhline(np.log(VOCAB), color="gray", linestyle=":", label=f"chance: ln({VOCAB})")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    save_figure(figure, args.output)
    print(f"figure {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
