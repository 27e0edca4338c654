"""nanoGPT's recipe for a CPU, re-told: what chapter 04's faster recipes are measured against.

    python 04_training/nanogpt_recipe.py     # 70 to 90 seconds on two cores: validation loss about 1.90

It is that of https://github.com/karpathy/nanoGPT (commit 3adf61e154c3fe3fca428ad6bc3818b27a3b8291), README, "I only
have a macbook": 4 layers, 128 wide, 4 heads, blocks of 64 characters, 12 a step, 2,000 steps, no dropout. From the same
weights and batches it has the same losses.
"""

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
import corpora
import flags
import trainer
from evaluation import evaluate
from flags import UserError
from gpt import GPT, GPTConfig

BATCH, BLOCK, STEPS = 12, 64, 2000


def nanogpt_model(vocab_size, seed, embedding_size=128, block_size=BLOCK, head_count=4, layer_count=4):
    """Our GPT with nanoGPT's details: no biases, GELU in its exact form, every weight of deviation 0.02."""
    torch.manual_seed(seed)
    model = GPT(GPTConfig(vocab_size, embedding_size, block_size, head_count, layer_count, bias="none",
                          feed_forward="exact_gelu"))
    for embedding in (model.token_embedding, model.position_embedding):  # blocks have 0.02 already
        nn.init.normal_(embedding.weight, std=0.02)
    return model


def nanogpt_optimizer(model):
    """AdamW in its plain form: nanoGPT has the fused one on CUDA only."""
    return torch.optim.AdamW(trainer.decay_groups(model.parameters(), 0.1), lr=1e-3, betas=(0.9, 0.99))


def nanogpt_rate(step, highest=1e-3, lowest=1e-4, warmup=100, steps=STEPS):
    """The learning rate of a step: up in a straight line, then half a cosine down to a tenth."""
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def nanogpt_step(model, optimizer, ids, targets, rate):
    """One step on ids and targets (B, T); returns the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    logits, _ = model(ids)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def nanogpt_run(train_tokens, val_tokens, seed, steps=STEPS, vocab_size=65):
    """Train on an array of token ids: (seconds of training, mean loss over all of `val_tokens`, model)."""
    model = nanogpt_model(vocab_size, seed)
    optimizer, batch = nanogpt_optimizer(model), trainer.random_batches(train_tokens, BATCH, BLOCK, seed)
    began = time.perf_counter()
    for step in range(steps):
        nanogpt_step(model, optimizer, *batch(step), nanogpt_rate(step))
    seconds = time.perf_counter() - began
    return seconds, evaluate(model, val_tokens, 64, BLOCK), model


def characters(data):
    """(training ids, validation ids, vocabulary size) of a text: characters in the order of their code points.

    The first nine tenths train. Raises UserError where the last tenth is less than a block.
    """
    vocabulary, ids = np.unique(list(corpora.load(data)), return_inverse=True)
    cut = int(0.9 * len(ids))
    if len(ids) - cut < BLOCK:
        raise UserError(f"{data} has {len(ids):,} characters: give a text of at least {10 * BLOCK}")
    return ids[:cut], ids[cut:], len(vocabulary)


def main():
    parser = flags.Parser("Train with nanoGPT's recipe for a CPU.")
    parser.add_argument("-d", "--data", default="tinyshakespeare", help="name of a corpus, or a text file")
    parser.add_argument("--steps", type=int, default=STEPS, help="how far into its 2,000 steps")
    parser.add_argument("--seed", type=int, default=1337, help="the same seed gives the same numbers")
    args = parser.parse()
    flags.check_numbers(args)
    train_tokens, val_tokens, vocab_size = characters(args.data)
    seconds, loss, _ = nanogpt_run(train_tokens, val_tokens, args.seed, args.steps, vocab_size)
    print(f"{args.steps:,} steps in {seconds:.1f} s: loss {loss:.3f} on all {len(val_tokens):,} validation characters")


if __name__ == "__main__":
    flags.run(main)
