"""Training with a budget: of steps, or of seconds, by which models of different speed can be compared fairly."""

import math
import time

import torch


def train_for(model, batch_loss, steps=math.inf, seconds=math.inf, learning_rate=3e-3):
    """Take as many AdamW steps on `batch_loss()` as either budget allows; return how many that were.

    The learning rate rises for 50 steps, then falls in a straight line to 0 at the end of the budget.
    """
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    began, step = time.perf_counter(), 0
    while (spent := max(step / steps, (time.perf_counter() - began) / seconds)) < 1:
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(step / 50, 1.0) * (1 - spent)
        optimizer.zero_grad()
        batch_loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return step
