"""What every use of a model shares: a number format that is fast, dropout switched off, the loss of a text."""

import contextlib
import math

import numpy as np
import torch


def autocast(device, dtype):
    """Matrix products in `dtype`; weights, their gradients and the loss stay in float32."""
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


@contextlib.contextmanager
def evaluating(model):
    """Without dropout; afterwards as before."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@torch.no_grad()
def evaluate(model, tokens, batch_size, block_size, dtype=torch.float32, most=None):
    """Mean loss per token over a text, block by block (the first `most` tokens of it), without dropout."""
    device = next(model.parameters()).device
    count = min(len(tokens) - 1, most or len(tokens))
    at, total = 0, 0.0
    with evaluating(model), autocast(device, dtype):
        while at < count:
            T = min(block_size, count - at)
            B = min(batch_size, (count - at) // T)
            piece = torch.from_numpy(tokens[at : at + B * T + 1].astype(np.int64)).to(device)
            _, loss = model(piece[:-1].view(B, T), piece[1:].view(B, T))
            total += loss.item() * B * T
            at += B * T
    return total / count if count > 0 else math.nan
