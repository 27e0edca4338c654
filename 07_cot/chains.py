"""Chains of thought, many at once: drawn, helped by a calculator, kept to a budget, searched step by step, refined.

    think(model, tokenizer, ["3*9+6*8?"], samples=16, settings=Sampling(0.7))     # a list of 16 Chains for the question

All samples of a question share the one pass that reads it, and a chain that has ended leaves the batch
(03_gpt/sampling.py). What steers a chain while it is written is a Guide.
"""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from family import WAIT, encoded, read_chain
from number_tasks import OPERATIONS
from sampling import Sampling, complete
from tokenizer_base import Tokenizer

AT_ONCE = 256  # chains in a batch


@dataclass
class Chain:
    """What was written behind a question, without the end, and how likely the model found it."""

    text: str
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)

    @cached_property
    def read(self):
        return read_chain(self.text)

    @property
    def steps(self):
        return self.read[0]

    @property
    def answer(self):
        """None if the chain has none."""
        return self.read[1]

    @property
    def log_probability(self):
        return sum(self.log_probabilities)

    def step_log_probabilities(self):
        """The log-probability of each step with its ";", and of the answer behind them. Tokens are characters."""
        pieces, sums, at = re.findall(r"[^;]*;|[^;]+$", self.text), [], 0
        for piece in pieces[:-1]:
            sums.append(sum(self.log_probabilities[at : at + len(piece)]))
            at += len(piece)
        return [*sums, sum(self.log_probabilities[at:])]  # with that of the end


# ---- what steers a chain ----


def calculator(text):
    """What follows at the end of a text that has just said `3*4=`, of <<3*4=12>> or of a step; None elsewhere.

    Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems", appendix C: the model writes what is to be
    computed, and the calculator overrides what it would say next.
    """
    found = re.search(r"(\d+)([-+*/])(\d+)=$", text, re.ASCII)
    if not found:
        return None
    a, operator, b = int(found[1]), found[2], int(found[3])
    if operator == "/":
        return None if b == 0 or a % b else str(a // b)
    return str(OPERATIONS[operator](a, b))


def mod_10_calculator(text):
    """The calculator of chains whose results are single digits."""
    said = calculator(text)
    return said and str(int(said) % 10)


CALCULATORS = {  # of the families whose steps have two terms
    "arithmetic": mod_10_calculator, "programs": mod_10_calculator, "words": calculator, "countdown": calculator}


@dataclass
class Guide(Sampling):
    """Sampling that may put words into the model's mouth: `says(text so far) -> what comes next, or None`.

    `least_steps`: an answer that comes before so many steps is turned into "wait", and `most_steps`: behind so many
    the answer is due. Muennighoff et al. 2025, "s1: Simple test-time scaling", section 3.1, call it budget forcing.
    """

    tokenizer: Tokenizer = field(kw_only=True)
    says: Callable[[str], str | None] | None = None
    least_steps: int = 0
    most_steps: int | None = None

    def __post_init__(self):
        self.forced = {}  # of texts that are in the middle of what was put into their mouths: what is left of it

    def next_word(self, text, likeliest):
        """What has to come after a text, where the model would most likely say `likeliest`; None if it may choose."""
        at_step = not text or text.endswith(";")
        count = text.count(";")
        if at_step and likeliest == "#" and count < self.least_steps:
            return f"{WAIT};"
        if at_step and self.most_steps is not None and count >= self.most_steps and likeliest != "#":
            return "#"
        return self.says(text) if self.says else None

    def looking_back(self, logits, ids, new):
        logits = super().looking_back(logits, ids, new).clone()  # the model's own are still asked for
        if new == 0:
            self.forced.clear()
        going_on = {}
        for row, likeliest in enumerate(logits.argmax(-1).tolist()):
            written = tuple(ids[row, ids.shape[1] - new :].tolist())
            word = self.forced.get(written)
            if word is None:
                likeliest = "" if likeliest in self.stop_tokens else self.tokenizer.decode([likeliest])
                word = self.tokenizer.encode(self.next_word(self.tokenizer.decode(list(written)), likeliest) or "")
            if word:
                logits[row] = -torch.inf
                logits[row, word[0]] = 0.0
                if word[1:]:
                    going_on[(*written, word[0])] = word[1:]
        self.forced = going_on
        return logits


# ---- how chains are drawn ----


def room(model, questions):
    """How many tokens a model can still write behind the longest question."""
    return model.config.block_size - max(map(len, questions))


def think(model, tokenizer, questions, samples=1, settings=None, max_new_tokens=None, generators=None, begun=None):
    """For each question (a text) a list of `samples` Chains. The default takes the likeliest character each time.

    `generators`: one for each question and sample, in that order, so that a chain does not depend on what else is
    drawn. `begun`: for each question the Chain to go on from, which becomes part of what is returned.
    """
    settings = replace(settings or Sampling(0.0), stop_tokens=(tokenizer.end_of_text,))
    begun = begun or [Chain("")] * len(questions)
    prompts = [encoded(question, tokenizer) + beginning.ids for question, beginning in zip(questions, begun)]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # alike ones together: little padding
    found: list = [None] * len(prompts)
    for first in range(0, len(order), count := max(1, AT_ONCE // samples)):
        these = order[first : first + count]
        mine = [generators[i * samples + s] for i in these for s in range(samples)] if generators else None
        longest = min(room(model, [prompts[i] for i in these]), max_new_tokens or math.inf)
        if longest < 1:
            raise ValueError(f"a question leaves no room in the model's block_size of {model.config.block_size}")
        texts = complete(model, [prompts[i] for i in these], longest, settings, samples, mine)
        for n, i in enumerate(these):
            found[i] = [chain_of(text, begun[i], tokenizer) for text in texts[n * samples : (n + 1) * samples]]
    return found


def chain_of(completion, beginning, tokenizer):
    """A Completion behind the beginning of a Chain, as one Chain."""
    ids = beginning.ids + completion.ids
    text = tokenizer.decode([i for i in ids if i != tokenizer.end_of_text])
    return Chain(text, ids, beginning.log_probabilities + completion.log_probabilities)


def beginning_of(chain, length):
    """The first so many characters of a Chain, as one to go on from."""
    return Chain(chain.text[:length], chain.ids[:length], chain.log_probabilities[:length])


def row_generators(count, seed):
    """A random generator for each of `count` chains."""
    return [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in range(count)]
