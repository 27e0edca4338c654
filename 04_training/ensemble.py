"""Several models of one recipe and other seeds, whose probabilities are averaged: how low tiny Shakespeare goes.

    python 04_training/ensemble.py --models 8

Hansen and Salamon 1990, "Neural Network Ensembles", section 2: models that begin differently err differently.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
from evaluation import autocast
from records import trained


@torch.no_grad()
def probabilities(model, dtype, tokens, rows=32):
    """What a model gives to each token but the first (N,), read in blocks of its block_size."""
    model.eval()
    found, T = [], model.config.block_size
    device, stride = model.head_weight.device, rows * T
    tokens = torch.from_numpy(tokens.astype("int64"))
    for at in range(0, len(tokens) - 1, stride):
        ids, targets = tokens[at : at + stride + 1][:-1], tokens[at + 1 : at + stride + 1]
        for i in (slice(0, len(ids) // T * T), slice(len(ids) // T * T, None)):  # whole blocks, then the rest
            if len(ids[i]):
                shape = (-1, min(T, len(ids[i])))
                with autocast(device, dtype):
                    logits, _ = model(ids[i].view(shape).to(device))  # (B, T, V)
                each = logits.float().softmax(-1).cpu().gather(-1, targets[i].view(shape)[..., None])
                found.append(each.flatten())
    return torch.cat(found)


def main():
    parser = flags.Parser("Train several models for tiny Shakespeare and average what they say.")
    parser.add_argument("--models", type=int, default=8, help="how many, of seeds 1337, 1338, ...")
    parser.add_argument("--recipe", choices=["tinyshakespeare", "sprint"], default="tinyshakespeare", help="of each")
    args = parser.parse()
    flags.check_ranges(args, models=1)
    print("models  seconds of training  loss of this one  loss of the average")
    total, time_spent = 0.0, 0.0
    for count in range(1, args.models + 1):
        seconds, model, dtype, val_tokens = trained(args.recipe, 1336 + count)
        said = probabilities(model, dtype, val_tokens)
        total, time_spent = total + said, time_spent + seconds
        alone, average = -said.log().mean(), -(total / count).log().mean()
        print(f"{count:6}  {time_spent:19.1f}  {alone:16.4f}  {average:19.4f}", flush=True)


if __name__ == "__main__":
    flags.run(main)
