"""What the pieces of thoughts.py share: the numbers they are made with, where they stand, texts and batches.

Shapes: B texts, T tokens.
"""

import sys
import zlib
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import checkpoint
import flags
from batches import pad_rows
from chains import CALCULATORS, Guide
from evaluation import evaluating
from family import encoded, problems
from optimizers import make_optimizer
from sampling import Sampling
from schedules import linear
from tasks import find
from training_run import train_and_keep

BASE = {"learning_rate": 4e-3, "tokens": 2048, "ahead": 18, "ahead_weight": 0.2}  # 18 are three steps of arithmetic
REAL = {"learning_rate": 3e-3, "tokens": 256}  # of LoRA on other models than this chapter's
BASE_SEED = 1337  # one base for all seeds, as a published model would be
HELD_OUT, REAL_HELD_OUT = 16, 4  # problems of each difficulty, for the validations of a training


@dataclass(frozen=True)
class Plan:
    """What decides how the pieces come out, but for the seed. The numbers are those of this chapter's own models."""

    data: str = "arithmetic"
    hardest: int = 8  # problems are of all difficulties up to this one
    problems: int = 6000  # of each difficulty, for training
    layers: int = 6  # of the base
    base_steps: int = 600
    rank: int = 16
    answer_steps: int = 300
    chains: int = 1200  # of the teacher, of each difficulty
    sequence_steps: int = 600
    on_policy_steps: int = 60
    routed: int = 160  # problems of each difficulty that the router learns from
    load_model: str = ""  # what the base is made of, if not of the chapter's own reasoner: weights, or a checkpoint

    def path(self, piece, seed, settings=None):
        """Where a piece stands; another plan, as far as it concerns it, and other `settings` have other places."""
        base = ["data", "hardest", "problems", "layers", "base_steps"]
        numbers = [each.name for each in fields(self) if each.name != "load_model"]
        names = {"base": base, "answers": [*base, "rank", "answer_steps"], "router": numbers}.get(
            piece, [*base, "chains", "sequence_steps", "on_policy_steps"])
        real = [self.load_model, self.rank, REAL] if self.load_model else []  # the base has LoRA then, too
        key = zlib.crc32(repr([*(getattr(self, name) for name in names), BASE, settings, *real]).encode())
        return flags.CHECKPOINTS / f"07_thoughts_{self.data}_{piece}_{key:08x}_{seed}.pt"

    @property
    def kind(self):
        """Of the base's checkpoint."""
        return "adapters" if self.load_model else "gpt"

    @property
    def mark(self):
        """What stands before an answer: with real weights that of chains, behind which they can answer already."""
        return "#" if self.load_model else ""


REAL_NUMBERS = {"data": "words", "hardest": 3, "problems": 400, "base_steps": 50, "answer_steps": 20, "chains": 150,
                "sequence_steps": 600, "on_policy_steps": 10, "routed": 20}  # a Plan's where `load_model` is given


def validation_problems(plan, seed):
    """Validation problems for the validations of a training."""
    count = REAL_HELD_OUT if plan.load_model else HELD_OUT
    return [each for level in by_level(plan, "validation", count, seed) for each in level]


def writing(plan, tokenizer, temperature=0.0):
    """How thoughts are written: for other models than this chapter's a tool writes results, if the family has one.

    LoRA teaches SmolLM2 sooner which numbers to take than to add them: EXPERIMENTS.md has both.
    """
    says = CALCULATORS.get(plan.data) if plan.load_model else None
    return Guide(temperature, tokenizer=tokenizer, says=says) if says else Sampling(temperature)


# ---- problems and batches ----


def by_level(plan, split, count, seed):
    """[Problems of each difficulty, from the easiest on], all different: of an easy one there may not be so many."""
    family = find(plan.data)
    return [problems(family, split, count, seed * 1000 + level, level)
            for level in range(family.easiest, plan.hardest + 1)]


def for_training(plan, count, seed):
    """`count` training problems of each difficulty; easy ones come more often where there are not so many."""
    return [level[i % len(level)] for level in by_level(plan, "train", count, seed) for i in range(count)]


def chain_row(question, chain, tokenizer):
    """(ids, targets) of a text, targets one token on: of a question nothing is learned, of the chain behind it all."""
    return row_of(encoded(question, tokenizer), [*encoded(chain, tokenizer), tokenizer.end_of_text])


def chains_apart(plan, seed, tokenizer):
    """Rows of validation problems."""
    return [chain_row(each.question, each.chain, tokenizer) for each in validation_problems(plan, seed)]


def row_of(asked, said):
    return (asked + said)[:-1], [-100] * (len(asked) - 1) + said


def collated(rows):
    """[(ids, targets)] -> ids and targets, each (B, T)."""
    ids, targets = zip(*rows)
    return pad_rows(ids), pad_rows(targets, -100)


def even_batches(rows, tokens, seed):
    """step -> a batch of about so many tokens, of texts that are about as long as one another."""
    groups = defaultdict(list)
    for row in rows:
        groups[len(row[0]) // 8].append(row)
    groups = list(groups.values())
    shares = np.array([sum(len(ids) for ids, _ in group) for group in groups], dtype=float)

    def batch(step):
        random = np.random.default_rng((seed, step))
        group = groups[random.choice(len(groups), p=shares / shares.sum())]
        longest = max(len(ids) for ids, _ in group)
        return collated([group[i] for i in random.integers(len(group), size=max(1, tokens // longest))])

    return batch


# ---- how a piece is trained ----


def ensured(path, kind, train):
    """A path, behind which a finished checkpoint stands: trained now by `train()` if it was not there."""
    return checkpoint.ensured(path, lambda words: train(), kind)


def unfinished(path, kind):
    """What a checkpoint of an interrupted run holds; None if there is none."""
    return checkpoint.load(path, kind) if path.exists() else None


def keep_training(kind, model, tokenizer, loss_of, batch, held_out, settings, run, path, loaded, dtype,
                  beside=None):
    """Train a piece as `settings` and `run` say, and keep it at a path: its history, None after Ctrl-C."""
    held = [part.to(model.head_weight.device) for part in collated(held_out)]

    @torch.no_grad()
    def validate():
        with evaluating(model):
            return model(*held)[1].item()

    optimizer = make_optimizer(loss_of, settings.get("optimizer", "muon"), settings["learning_rate"],
                               settings.get("weight_decay", 0.01))
    return train_and_keep(
        kind, model, tokenizer, optimizer, batch, linear(settings["learning_rate"], run["steps"]), validate, run,
        f"{run['data']}: {run['piece']}", loaded, path, path, dtype, loss_of.to(model.head_weight.device),
        beside=beside)
