"""Draw what each head of the trained models looks at in a text.

    python 02_attention/infer.py "Return the name of the file"
    python 02_attention/infer.py --kinds latent -o latent.png
"""

import subprocess
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
import checkpoint
import flags
from atomic import save_figure
from attention_maps import draw_maps, visible
from attention_model import AttentionModel
from tokenizer import from_state

DEFAULT_CHECKPOINT = flags.CHECKPOINTS / "02_attention.pt"


def main():
    parser = flags.Parser("Draw what each head of the trained models looks at in a text.")
    example = "Return the name of the file and the line number."
    parser.add_argument("text", nargs="?", help=f"the text (default: {example})")
    parser.add_argument("-p", "--prompt", help="the text, as in the other chapters")
    parser.add_argument("-l", "--load_model", metavar="PATH", default=str(DEFAULT_CHECKPOINT), help="the checkpoint")
    parser.add_argument("--kinds", metavar="A,B", help="which of its kinds of attention (default: all)")
    parser.add_argument("-o", "--output", default="attention_maps.png", help="where to draw")
    args = parser.parse()
    if args.load_model == str(DEFAULT_CHECKPOINT) and not DEFAULT_CHECKPOINT.exists():
        print("no trained model yet: running 02_attention/train.py first", flush=True)
        if status := subprocess.run([sys.executable, str(Path(__file__).with_name("train.py"))]).returncode:
            sys.exit(status)  # train.py has said why
    loaded = checkpoint.load(args.load_model, "attention_models")
    with_maps = [kind for kind in loaded["models"] if kind != "recurrent"]
    kinds = args.kinds.split(",") if args.kinds else with_maps
    if unknown := [kind for kind in kinds if kind not in with_maps]:
        raise flags.UserError(f"{args.load_model} has no maps of '{unknown[0]}': take some of {','.join(with_maps)}")
    tokenizer = from_state(loaded["tokenizer"])
    ids = tokenizer.encode(args.prompt or args.text or example, disallowed_special=())
    most = loaded["config"]["block_size"]
    if not 0 < len(ids) <= most:
        raise flags.UserError(f"the text has {len(ids)} tokens: give from 1 to {most}")
    tokens = [visible(tokenizer.decode([i])) for i in ids]

    rows = {}
    for kind in kinds:
        model = AttentionModel(**loaded["config"], kind=kind).eval()
        model.load_state_dict(loaded["models"][kind])
        with torch.no_grad():
            maps = model.attention_maps(torch.tensor([ids]))
        for layer, weights in enumerate(maps):
            name = kind if len(maps) == 1 else f"{kind}, layer {layer + 1}"
            rows[name] = weights[0]  # (nh, T, T)
            most_looked_at = (tokens[head[-1].argmax()] for head in weights[0])
            print(f"{name}: from the last token, the heads look most at {' '.join(most_looked_at)}")
    save_figure(draw_maps(rows, tokens), args.output)
    print(f"attention maps {flags.shown(args.output)}")


if __name__ == "__main__":
    flags.run(main)
