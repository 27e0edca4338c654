"""Train a language model of one attention block. The loop is plain on purpose: it is the lesson."""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
import checkpoint
import flags
from one_block import OneBlockModel
from prepare import open_data


def random_batch(tokens, batch_size, block_size, generator):
    """(ids, targets), each (B, T), from random places of the text; a target is the token that follows."""
    starts = generator.integers(len(tokens) - block_size, size=batch_size)
    pieces = np.stack([tokens[i : i + block_size + 1] for i in starts]).astype(np.int64)
    return torch.from_numpy(pieces[:, :-1]), torch.from_numpy(pieces[:, 1:])


def main():
    parser = flags.Parser("Train a language model of one attention block and save it.")
    flags.training_flags(
        parser, save="checkpoints/02_attention.pt", embedding_size=64, batch_size=16, block_size=64,
        learning_rate=3e-3, steps=600, head_count=4, dropout=0.0,
    )
    args = parser.parse()
    load, save = flags.checkpoint_paths(args, flags.CHECKPOINTS / "02_attention.pt")
    loaded = checkpoint.load(load, "one_block") if load else None
    if loaded:
        flags.take_numbers(args, loaded["config"], loaded["run"], load)
    flags.check_numbers(args)

    torch.manual_seed(args.seed)
    generator = np.random.default_rng(args.seed)
    tokenizer, train_tokens, val_tokens = open_data(args, loaded and loaded["tokenizer"], load)
    if min(len(train_tokens), len(val_tokens)) <= args.block_size:
        raise flags.UserError(f"{args.data} is too short for a block_size of {args.block_size}: give a longer text")
    config = {"vocab_size": tokenizer.vocab_size, "embedding_size": args.embedding_size,
              "block_size": args.block_size, "head_count": args.head_count}
    device = flags.choose_device(args.device)
    dtype = flags.choose_dtype(args.dtype, device, args.embedding_size)
    model = OneBlockModel(**config, dropout=args.dropout).to(device)
    if loaded:
        model.load_state_dict(loaded["model"])
    print(f"device {device}, dtype {dtype}, {sum(p.numel() for p in model.parameters()):,} parameters,"
          f" {len(train_tokens):,} training tokens, ln(vocabulary size) {np.log(tokenizer.vocab_size):.3f}")

    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    for step in range(args.steps + 1):
        if step % max(1, args.steps // 6) == 0:
            model.eval()
            with torch.no_grad():
                ids, targets = random_batch(val_tokens, 64, args.block_size, np.random.default_rng(0))
                _, loss = model(ids.to(device), targets.to(device))
            print(f"step {step:,}: validation loss {loss.item():.3f}")
            model.train()
        if step == args.steps:
            break
        ids, targets = random_batch(train_tokens, args.batch_size, args.block_size, generator)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            _, loss = model(ids.to(device), targets.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    if save:
        run = {name: getattr(args, name) for name in ("batch_size", "learning_rate", "steps", "dropout", "seed")}
        weights = model.state_dict()
        checkpoint.save(save, "one_block", model=weights, config=config, tokenizer=tokenizer.state(), run=run)
        print(f"checkpoint {flags.shown(save)}")


if __name__ == "__main__":
    flags.run(main)
