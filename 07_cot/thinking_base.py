"""The base: a reasoner that looks ahead, and so knows more than the next token.

It is the reasoner of this chapter with two more blocks, trained further on chains of all difficulties. With LoRA
(answering.py) it answers; as it is, it is the teacher of the Tiny Thought Model (thought_distillation.py). Real weights
take its place with LoRA that was trained on chains; nothing makes them look ahead but what they know.
Shapes: B texts, T tokens, N boundaries, H tokens ahead, C = embedding size, V = vocabulary size.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from family import encoded
from gpt import GPT
from reasoner import ensure_reasoner, load_reasoner
from thought_adapters import train_adapters
from thought_plan import (
    BASE,
    BASE_SEED,
    REAL,
    chain_row,
    chains_apart,
    ensured,
    even_batches,
    for_training,
    keep_training,
    unfinished,
)


class Foresight(nn.Module):
    """A GPT in training that says at each boundary, where a thought may begin, what the next 1 + H tokens are.

    Who learns to write a step token by token never has to know its result before its end. The heads ask for the next
    three steps at once, and for the first token of the answer: then it can be given without them. Gloeckle et al. 2024,
    "Better & Faster Large Language Models via Multi-token Prediction", section 2, have heads for every token; theirs
    are blocks, these are linear.
    """

    def __init__(self, model, tokenizer, ahead, weight):
        super().__init__()
        self.model, self.config, self.ahead, self.weight = model, model.config, ahead, weight
        *self.boundaries, self.mark = encoded("?;#", tokenizer)
        self.heads = nn.Linear(model.config.embedding_size, (ahead + 1) * model.config.vocab_size, bias=False)
        nn.init.normal_(self.heads.weight, std=0.02)

    def wanted(self, targets):
        """targets (B, T) -> (B, T, H + 1): the tokens 2, 3, ... H + 1 places on, and the one behind the #."""
        following = F.pad(targets, (0, self.ahead), value=-100).unfold(1, self.ahead + 1, 1)[..., 1:]  # (B, T, H)
        marks = targets == self.mark
        answers = F.pad(targets, (0, 1), value=-100).gather(1, marks.int().argmax(1, keepdim=True) + 1)  # (B, 1)
        answers = answers.masked_fill(~marks.any(1, keepdim=True), -100)
        return torch.cat([following, answers[:, None].expand(-1, targets.shape[1], -1)], dim=-1)

    def forward(self, ids, targets):
        hidden, counted = self.model.hidden(ids), targets != -100
        loss = F.cross_entropy(self.model.head(hidden[counted]).float(), targets[counted])
        at = counted & torch.isin(ids, torch.tensor(self.boundaries, device=ids.device))  # (B, T), N of them
        logits = self.heads(hidden[at]).unflatten(-1, (self.ahead + 1, -1)).float()  # (N, H + 1, V)
        wanted = self.wanted(targets)[at]
        losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="sum")
        return None, loss + self.weight * losses / at.sum()


def grown(model, layer_count):
    """A copy of a GPT with more blocks behind its own, which change nothing yet.

    Their last matrices are 0: Chen et al. 2016, "Net2Net", section 2.3, begin deeper nets as the same function.
    """
    larger = GPT(replace(model.config, layer_count=layer_count))
    larger.load_state_dict(larger.state_dict() | model.state_dict())
    for block in larger.blocks[len(model.blocks) :]:
        nn.init.zeros_(block.attention.projection.weight)
        nn.init.zeros_(block.feed_forward.projection.weight)
    return larger


def ensure_base(plan, args):
    """The path of the base: the reasoner of the family, with more blocks, trained further on all difficulties.

    Where the plan names another model, it is what LoRA adds to that.
    """
    path = plan.path("base", BASE_SEED)
    train = train_real_base if plan.load_model else train_base
    return ensured(path, plan.kind, lambda: train(plan, args, path))


def train_base(plan, args, path):
    torch.manual_seed(BASE_SEED)
    reasoner, dtype, tokenizer, _ = load_reasoner(ensure_reasoner(plan.data), args)
    model, loaded = grown(reasoner, plan.layers).to(reasoner.head_weight.device), unfinished(path, "gpt")
    loss_of = Foresight(model, tokenizer, BASE["ahead"], BASE["ahead_weight"])
    if loaded:
        model.load_state_dict(loaded["model"])
        loss_of.heads.load_state_dict(loaded["heads"])
    train = [chain_row(each.question, each.chain, tokenizer) for each in for_training(plan, plan.problems, BASE_SEED)]
    held_out = chains_apart(plan, BASE_SEED, tokenizer)
    run = {"data": plan.data, "piece": "base", "style": "chain", "difficulty": plan.hardest, "seed": BASE_SEED,
           "steps": plan.base_steps, **BASE}
    return keep_training("gpt", model, tokenizer, loss_of, even_batches(train, BASE["tokens"], BASE_SEED), held_out,
                         BASE, run, path, loaded, dtype, {"heads": loss_of.heads.state_dict})


def train_real_base(plan, args, path):
    def rows_of(tokenizer):
        train = for_training(plan, plan.problems, BASE_SEED)
        return [chain_row(each.question, each.chain, tokenizer) for each in train], chains_apart(
            plan, BASE_SEED, tokenizer)

    run = {"data": plan.data, "piece": "base", "difficulty": plan.hardest, "seed": BASE_SEED,
           "steps": plan.base_steps, "rank": plan.rank, **REAL}
    return train_adapters(path, plan.load_model, plan, BASE_SEED, args, rows_of, REAL, run)
