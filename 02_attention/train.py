"""Train language models that differ in their kind of attention only, and draw their losses in one figure.

    python 02_attention/train.py
    python 02_attention/train.py --kinds multi_head,latent -d tinyshakespeare -s mine.pt 128 16 64

The loop is plain on purpose: it is the lesson.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
import checkpoint
import flags
from atomic import save_figure
from attention_model import KINDS, AttentionModel
from prepare import open_data

COMPARED = ("no_mask", "single_head", "multi_head", "grouped_query", "latent")
CHECKS = 12  # how often in a run the validation loss is looked at


def random_batch(tokens, batch_size, block_size, generator):
    """(ids, targets), each (B, T), from random places of the text; a target is the token that follows."""
    starts = generator.integers(len(tokens) - block_size, size=batch_size)
    pieces = np.stack([tokens[i : i + block_size + 1] for i in starts]).astype(np.int64)
    return torch.from_numpy(pieces[:, :-1]), torch.from_numpy(pieces[:, 1:])


def train(model, train_tokens, val_tokens, args, device, dtype):
    """Train a model with the numbers of the command line; return rows of (step, validation loss)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    generator = np.random.default_rng(args.seed)  # every kind sees the same batches
    history = []
    for step in range(args.steps + 1):
        if step % max(1, args.steps // CHECKS) == 0 or step == args.steps:
            model.eval()
            with torch.no_grad():
                ids, targets = random_batch(val_tokens, 64, args.block_size, np.random.default_rng(0))
                _, loss = model(ids.to(device), targets.to(device))
            history.append((step, loss.item()))
            model.train()
        if step == args.steps:
            return history
        ids, targets = random_batch(train_tokens, args.batch_size, args.block_size, generator)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            _, loss = model(ids.to(device), targets.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def facts(model):
    """What a kind of attention costs, in words."""
    numbers = model.cached_numbers()
    cached = "no cache" if numbers is None else f"{4 * numbers:,} bytes cached per token"
    return f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters, {cached}"


def draw(histories, costs, ln_vocabulary, path):
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for kind, history in histories.items():
        axes.plot(*zip(*history), "--" if kind == "no_mask" else "-", label=f"{kind}: {costs[kind]}")
    axes.axhline(ln_vocabulary, color="gray", linestyle=":", label=f"knowing nothing: ln(V) = {ln_vocabulary:.2f}")
    axes.set(xlabel="steps", ylabel="validation loss (nats per token)", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


def chosen_kinds(words, trained):
    """ "multi_head,latent" -> ["multi_head", "latent"]; by default those of a checkpoint, or all that are compared."""
    kinds = words.split(",") if words else list(trained or COMPARED)
    known = list(trained or KINDS)
    if unknown := [kind for kind in kinds if kind not in known]:
        raise flags.UserError(f"no kind '{unknown[0]}': take some of {','.join(known)}")
    return kinds


def main():
    parser = flags.Parser("Train language models that differ in their kind of attention only, and compare them.")
    parser.add_argument("--kinds", metavar="A,B", help=f"some of {','.join(KINDS)} (default: {','.join(COMPARED)})")
    flags.training_flags(
        parser, save="checkpoints/02_attention.pt", embedding_size=64, batch_size=16, block_size=64,
        learning_rate=3e-3, steps=600, head_count=4, layer_count=1, dropout=0.0,
    )
    args = parser.parse()
    load, save = flags.checkpoint_paths(args, flags.CHECKPOINTS / "02_attention.pt")
    loaded = checkpoint.load(load, "attention_models") if load else None
    if loaded:
        flags.take_numbers(args, loaded["config"], loaded["run"], load)
    flags.check_numbers(args)
    kinds = chosen_kinds(args.kinds, loaded and loaded["models"])

    tokenizer, train_tokens, val_tokens = open_data(args, loaded and loaded["tokenizer"], load)
    if min(len(train_tokens), len(val_tokens)) <= args.block_size:
        raise flags.UserError(f"{args.data} is too short for a block_size of {args.block_size}: give a longer text")
    config = {"vocab_size": tokenizer.vocab_size, "embedding_size": args.embedding_size,
              "block_size": args.block_size, "head_count": args.head_count, "layer_count": args.layer_count}
    device = flags.choose_device(args.device)
    dtype = flags.choose_dtype(args.dtype, device, args.embedding_size)
    ln_vocabulary = float(np.log(tokenizer.vocab_size))
    print(f"device {device}, dtype {str(dtype).removeprefix('torch.')}, {len(train_tokens):,} training tokens,"
          f" ln(vocabulary size) {ln_vocabulary:.3f}")

    prompt = torch.from_numpy(val_tokens[None, :8].astype(np.int64)).to(device)
    print(f"each goes on from {tokenizer.decode(prompt[0].tolist())!r}")
    histories, costs, models = {}, {}, dict(loaded["models"]) if loaded else {}
    for kind in kinds:
        torch.manual_seed(args.seed)
        try:
            model = AttentionModel(**config, kind=kind, dropout=args.dropout).to(device)
        except ValueError as error:  # a size that this kind can't have
            raise flags.UserError(f"{kind}: {error}") from error
        if loaded:
            model.load_state_dict(loaded["models"][kind])
        costs[kind], histories[kind] = facts(model), train(model, train_tokens, val_tokens, args, device, dtype)
        models[kind] = model.state_dict()
        losses = ", ".join(f"{loss:.3f}" for _, loss in histories[kind][:: CHECKS // 4])
        print(f"{kind}: {costs[kind]}\n    validation loss {losses}")
        print(f"    writes {tokenizer.decode(model.generate(prompt, 20)[0, 8:].tolist())!r}", flush=True)

    if save:
        run = {name: getattr(args, name) for name in ("batch_size", "learning_rate", "steps", "dropout", "seed")}
        checkpoint.save(save, "attention_models", models=models, config=config, tokenizer=tokenizer.state(), run=run)
        draw(histories, costs, ln_vocabulary, save.with_suffix(".png"))
        print(f"checkpoint {flags.shown(save)}, loss curves {flags.shown(save.with_suffix('.png'))}")


if __name__ == "__main__":
    flags.run(main)
