"""Draw what each head of a trained model looks at in a text.

    python 02_attention/infer.py "Return the name of the file"
"""

import subprocess
import sys
from pathlib import Path

import matplotlib
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
import checkpoint
import flags
from atomic import replacing
from one_block import OneBlockModel
from tokenizer import from_state

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DEFAULT_CHECKPOINT = flags.CHECKPOINTS / "02_attention.pt"


def draw_maps(maps, labels, path):
    """Draw the maps (nh, T, T) of all heads side by side; rows look at columns."""
    figure, axes = plt.subplots(1, len(maps), figsize=(1.5 + 3.1 * len(maps), 3.9), sharey=True,
                                squeeze=False, layout="constrained")
    for head, (axis, weights) in enumerate(zip(axes[0], maps)):
        image = axis.imshow(weights, vmin=0, vmax=1, cmap="Blues")
        axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize="small", family="monospace")
        axis.set_yticks(range(len(labels)), labels, fontsize="small", family="monospace")
        axis.set_title(f"head {head + 1}")
    figure.supylabel("this token ...", fontsize="medium")
    figure.supxlabel("... looks at this one", fontsize="medium")
    figure.colorbar(image, ax=axes[0], label="attention", shrink=0.8)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110, format="png")


def main():
    parser = flags.Parser("Draw what each head of a trained model looks at in a text.")
    parser.add_argument("text", nargs="?", default="Return the name of the file and the line number.", help="the text")
    parser.add_argument("-l", "--load_model", metavar="PATH", default=str(DEFAULT_CHECKPOINT), help="the checkpoint")
    parser.add_argument("-o", "--output", default="attention_maps.png", help="where to draw")
    args = parser.parse()
    if args.load_model == str(DEFAULT_CHECKPOINT) and not DEFAULT_CHECKPOINT.exists():
        print("no trained model yet: running 02_attention/train.py first")
        subprocess.run([sys.executable, str(Path(__file__).with_name("train.py"))], check=True)
    loaded = checkpoint.load(args.load_model, "one_block")
    tokenizer = from_state(loaded["tokenizer"])
    model = OneBlockModel(**loaded["config"]).eval()
    model.load_state_dict(loaded["model"])
    ids = tokenizer.encode(args.text, disallowed_special=())
    most = loaded["config"]["block_size"]
    if not 0 < len(ids) <= most:
        raise flags.UserError(f"the text has {len(ids)} tokens: give from 1 to {most}")
    with torch.no_grad():
        maps = model.attention_maps(torch.tensor([ids]))[0]  # (nh, T, T)
    draw_maps(maps, [tokenizer.decode([i]).replace(" ", "·").replace("\n", "\\n") for i in ids], args.output)
    for head, weights in enumerate(maps):
        print(f"head {head + 1}: the last token looks most at {tokenizer.decode([ids[weights[-1].argmax()]])!r}")
    print(f"attention maps {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
