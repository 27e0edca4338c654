"""Why deep models need residual connections and norms: the report's two papers in one picture.

    python 03_gpt/depth.py

The same model with 2, 6 and 12 layers, with both, with one and with none of them: how the loss falls, and how
much gradient reaches each layer before the first step.
He et al. 2015, "Deep Residual Learning for Image Recognition", section 3; Ba, Kiros and Hinton 2016, "Layer
Normalization", section 3.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
import flags
import trainer
from atomic import save_figure
from evaluation import evaluate
from gpt import GPT, Block, GPTConfig
from prepare import open_data
from variants import short_run

KINDS = {  # name: (residual connections, norm)
    "both": (True, "layer_norm"), "no norm": (True, "none"), "no residual": (False, "layer_norm"),
    "neither": (False, "none"),
}
DEPTHS = (2, 6, 12)
NUMBERS = {"embedding_size": 64, "batch_size": 8, "block_size": 64, "learning_rate": 3e-3, "steps": 600,
           "head_count": 4}


class PlainBlock(Block):
    """A block whose parts replace what came in, instead of being added to it."""

    def forward(self, x, positions=None, mask=None, cache=None):
        x = self.attention(self.attention_norm(x), positions, mask, cache)
        return self.feed_forward(self.feed_forward_norm(x))


def build(config, residual):
    """A model with GPT-2's initial weights; without residual connections they are larger, so that they keep the size
    of what passes through, which would vanish otherwise.

    Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", equation 16.
    """
    model = GPT(config)
    if not residual:
        model.blocks = nn.ModuleList(PlainBlock(config) for _ in range(config.layer_count))
        for module in model.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
    return model


def gradient_norms(model, ids, targets):
    """The norm of the loss's gradient with respect to all weights of each block, the first one first."""
    model.zero_grad()
    model(ids, targets)[1].backward()
    norms = [torch.cat([p.grad.flatten() for p in block.parameters()]).norm().item() for block in model.blocks]
    model.zero_grad()
    return norms


def main():
    parser = flags.Parser("Train models of 2, 6 and 12 layers with and without residual connections and norms.")
    flags.text_flags(parser)
    flags.number_flags(parser, NUMBERS)
    parser.add_argument("--seed", type=int, default=1337, help="the same seed gives the same numbers")
    parser.add_argument("-o", "--output", default=str(flags.CHECKPOINTS / "03_depth.png"), help="where to draw")
    args = parser.parse()
    flags.check_numbers(args)
    tokenizer, train_tokens, val_tokens = open_data(args)
    first_batch = trainer.random_batches(train_tokens, args.batch_size, args.block_size, args.seed)(0)

    figure = Figure(figsize=(11, 6), layout="constrained")
    grid = figure.subplots(2, len(DEPTHS), sharey="row")
    for column, depth in enumerate(DEPTHS):
        for name, (residual, norm) in KINDS.items():
            torch.manual_seed(args.seed)
            config = GPTConfig(tokenizer.vocab_size, args.embedding_size, args.block_size, args.head_count, depth)
            model = build(replace(config, norm=norm), residual)
            norms = gradient_norms(model, *first_batch)
            rows = short_run(model, train_tokens, args, args.seed,
                             lambda: evaluate(model, val_tokens, 16, args.block_size, most=10_000))  # noqa: B023
            steps, _, losses = zip(*rows)
            print(f"{depth} layers, {name}: validation loss {losses[-1]:.3f},"
                  f" gradient of the first layer {norms[0]:.1e}, of the last {norms[-1]:.1e}", flush=True)
            grid[0, column].plot(steps, losses, label=name)
            grid[1, column].plot(range(1, depth + 1), norms, "o-", markersize=3)
        grid[0, column].set(title=f"{depth} layers", xlabel="steps")
        grid[1, column].set(yscale="log", xlabel="layer")
        for axes in grid[:, column]:
            axes.grid(alpha=0.3)
    grid[0, 0].set_ylabel("validation loss (nats per token)")
    grid[1, 0].set_ylabel("norm of the gradient\nbefore the first step")
    grid[0, 0].legend(frameon=False, fontsize="small")
    save_figure(figure, args.output)
    print(f"figure {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
