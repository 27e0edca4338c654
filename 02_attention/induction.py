"""Why one layer is not enough: a random segment is repeated, and the model is to go on with it.

    python 02_attention/induction.py

To know what comes next, find where the last token stood before, and take what followed there. A head can look
for the token, but what followed stands one place further on. In two layers it can be done: a head of the first
tells each place which token stands before it, and a head of the second looks for the place that was told so.
Olsson et al. 2022, "In-context Learning and Induction Heads"; Elhage et al. 2021, "A Mathematical Framework for
Transformer Circuits", where attention without feed-forward layers is taken apart in this way.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from atomic import save_figure
from attention_model import AttentionModel
from timed_training import train_for

VOCAB, LENGTH, SHORTEST, LONGEST = 64, 64, 8, 24


def repeated(batch_size, generator, length=LENGTH, shortest=SHORTEST, longest=LONGEST):
    """Random segments, each repeated at a period of its own: ids (B, T + 1), where it can be foreseen (B, T), periods.

    [7 1 4 7 1 4 7], period 3: at position 3 stands the second 7, so from there on the next token can be known.
    """
    periods = torch.randint(shortest, longest + 1, (batch_size, 1), generator=generator)
    segments = torch.randint(VOCAB, (batch_size, longest), generator=generator)
    ids = segments.gather(1, torch.arange(length + 1).expand(batch_size, -1) % periods)
    return ids, torch.arange(length) >= periods, periods


def repeat_loss(model, batch_size, generator, **sizes):
    """The loss where the next token can be known; the rest is chance."""
    ids, known, _ = repeated(batch_size, generator, **sizes)
    logits, _ = model(ids[:, :-1])
    return F.cross_entropy(logits[known], ids[:, 1:][known])


@torch.no_grad()
def share_right(model, ids):
    """How often the likeliest token is the right one, at each position: (T,)."""
    logits, _ = model(ids[:, :-1])
    return (logits.argmax(-1) == ids[:, 1:]).float().mean(0)


@torch.no_grad()
def head_scores(model, ids, known, periods):
    """What each head of each layer gives, on average, to two places: a pair of (layers, nh).

    To the place before its own (a previous-token head), and to the place after the last occurrence of its own
    token, period - 1 places back (an induction head).
    """
    maps = torch.stack(model.attention_maps(ids[:, :-1]))  # (layers, B, nh, T, T)
    places = torch.arange(ids.shape[1] - 1)
    scores = []
    for back in (torch.ones_like(periods), periods - 1):
        looked_at = (places - back).clamp(min=0)[None, :, None, :, None]  # (1, B, 1, T, 1)
        given = maps.gather(-1, looked_at.expand(*maps.shape[:-1], 1))[..., 0]  # (layers, B, nh, T)
        scores.append((given * known[:, None]).sum((1, 3)) / known.sum())
    return scores


def trained(layer_count, seed, steps):
    torch.manual_seed(seed)
    model, generator = AttentionModel(VOCAB, 64, LENGTH, 4, layer_count, "grouped_query"), torch.Generator()
    generator.manual_seed(seed)
    train_for(model, lambda: repeat_loss(model, 32, generator), steps)
    return model.eval()


def draw(curves, period, model, heads, path):
    """How often each model is right at each position, and what two heads look at in one repeated segment."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    for layer_count, colour in ((1, "tab:orange"), (2, "tab:blue")):
        for seed, curve in enumerate(curves[layer_count]):
            axes[0].plot(range(len(curve)), 100 * curve, color=colour, alpha=0.7,
                         label=None if seed else f"{layer_count} layer{'s' * (layer_count > 1)}, each seed")
    axes[0].axvline(period, color="gray", linestyle=":", label=f"the {period} tokens begin again")
    axes[0].set(xlabel="position", ylabel="next token right (%)", ylim=(0, 102))
    axes[0].grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize="small")
    ids = repeated(1, torch.Generator().manual_seed(1), 24, 8, 8)[0]
    with torch.no_grad():
        maps = model.attention_maps(ids[:, :-1])
    for axis, (layer, head), what in zip(axes[1:], heads, ("the token before", "what came after it last time")):
        image = axis.imshow(maps[layer][0, head], vmin=0, vmax=1, cmap="Blues")
        axis.set_title(f"layer {layer + 1}, head {head + 1}: {what}", fontsize="small")
        axis.set_xticks(range(24), ids[0, :-1].tolist(), fontsize=6, rotation=90)
        axis.set_yticks(range(24), ids[0, :-1].tolist(), fontsize=6)
        axis.set(xlabel="... looks at this one", ylabel="this token ...")
    figure.colorbar(image, ax=axes[1:], label="attention", shrink=0.7)
    save_figure(figure, path)


def main():
    parser = flags.Parser("Repeat random segments: see that two layers can go on with them, and one can't.")
    parser.add_argument("--steps", type=int, default=900, help="of training for each model; chosen on seeds 10 to 12")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="of models of each kind")
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "02_induction.png"), help="where to draw")
    args = parser.parse()
    flags.check_ranges(args, steps=1)

    test, known, periods = repeated(512, torch.Generator().manual_seed(10_000))
    middle, _, _ = repeated(512, torch.Generator().manual_seed(10_001), LENGTH, 16, 16)
    curves = {1: [], 2: []}
    for seed in args.seeds:
        for layer_count in (1, 2):
            model = trained(layer_count, seed, args.steps)
            with torch.no_grad():
                right = (model(test[:, :-1])[0].argmax(-1) == test[:, 1:])[known].float().mean()
            print(f"seed {seed}, {layer_count} layer{'s' * (layer_count > 1)}: {args.steps:,} steps,"
                  f" {right:.1%} of the tokens that can be known are right", flush=True)
            curves[layer_count].append(share_right(model, middle))
    before, induction = head_scores(model, test, known, periods)  # of the last model, of two layers
    heads = []
    for scores, what in ((before, "the token before it"), (induction, "what came after its token last time")):
        layer, head = divmod(int(scores.argmax()), scores.shape[1])
        heads.append((layer, head))
        print(f"layer {layer + 1}, head {head + 1} gives {scores.max():.0%} of its attention to {what}")
    draw(curves, 16, model, heads, args.output)
    print(f"figure {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
