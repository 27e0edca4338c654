"""The router: whether a base model should answer now, or be given a thought first; and the loop around it.

    routes = route(base, writer, router.probabilities, questions, threshold=0.9, budget=9)

A base is anything with
    hidden(routes) -> (N, C): what it knows at the last token of each question with its thoughts so far;
    answers(routes) -> [(answer, tokens that it wrote)];
    count(question) -> how many tokens that is;
a writer of thoughts anything with
    next_thoughts(routes) -> [(the next thought, or None if there is none to come, tokens that it wrote)].
Base and Writer are those of GPTs, with any tokenizer: this chapter's, and real weights.
Shapes: N questions or states, C = embedding size.
"""

import copy
import math
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import checkpoint
from evaluation import autocast
from family import encoded, write_steps
from fast_decode import for_writing
from sampling import Sampling, complete
from thought_plan import collated

AT_ONCE = 256  # texts that are read together
ALWAYS = 2.0  # a threshold that no probability reaches: think until the thoughts end
NUMBERS = {"width": 64, "learning_rate": 1e-3, "weight_decay": 0.01, "batch_size": 256, "steps": 1500}


@dataclass
class Route:
    """A question on its way to an answer."""

    question: str
    thoughts: list[str] = field(default_factory=list)
    asked: int = 0  # tokens of the question
    tokens: list[int] = field(default_factory=list)  # of each thought, as it was written
    believed: list[float] = field(default_factory=list)  # that the base would answer rightly, before each decision
    states: list = field(default_factory=list)  # (C,) each: what the base knew then
    written: int = 0  # tokens of thoughts and answer
    read: int = 0  # tokens that base and writer read, each once: as if both remembered what they have read
    ended: bool = False  # the writer has no more thoughts
    answer: str | None = None

    @property
    def context(self):
        return self.question + write_steps(self.thoughts)


def route(base, writer, probabilities, questions, threshold, budget):
    """A finished Route for each question: thought is added until the base is believed, or the budget of thoughts spent.

    `probabilities(states (N, C)) -> (N,)`. All open questions go one step together; those that are done drop out.
    """
    routes = [Route(question, asked=base.count(question)) for question in questions]
    going_on = routes
    while going_on:
        states = base.hidden(going_on)
        for each, state, believed in zip(going_on, states, probabilities(states).tolist()):
            each.states.append(state)
            each.believed.append(believed)
        going_on = [each for each in going_on
                    if each.believed[-1] < threshold and len(each.thoughts) < budget and not each.ended]
        if going_on:
            for each, (words, tokens) in zip(going_on, writer.next_thoughts(going_on)):
                each.written += tokens
                each.read += each.asked * (not each.thoughts) + (words is not None) * tokens
                each.ended = words is None
                if words is not None:
                    each.thoughts.append(words)
                    each.tokens.append(tokens)
            going_on = [each for each in going_on if not each.ended]
    for each, (answer, tokens) in zip(routes, base.answers(routes)):
        each.answer, each.written, each.read = answer, each.written + tokens, each.read + each.asked
    return routes


# ---- GPTs in the loop ----


def together(rows, length, function):
    """[function of rows], computed for rows of about the same length together, `function` taking and giving lists."""
    order = sorted(range(len(rows)), key=lambda i: length(rows[i]))
    found: list = [None] * len(rows)
    for first in range(0, len(rows), AT_ONCE):
        these = order[first : first + AT_ONCE]
        for i, value in zip(these, function([rows[i] for i in these])):
            found[i] = value
    return found


class RouteReader:
    """A GPT that reads routes, and behind them a `mark`, which no route counts; it writes as `settings` say.

    Without these it takes the likeliest token each time.
    """

    def __init__(self, model, tokenizer, dtype=torch.float32, settings=None, mark=""):
        self.model, self.dtype = for_writing(model, dtype)
        self.tokenizer, self.device = tokenizer, model.head_weight.device
        self.settings, self.mark = settings or Sampling(0.0), mark

    def count(self, question):
        return len(encoded(question, self.tokenizer))

    def ids(self, routes):
        return [encoded(each.context + self.mark, self.tokenizer) for each in routes]

    def complete(self, routes, stop, longest):
        """What is written behind each context, up to a token of `stop`: [its ids]."""
        settings = replace(self.settings, stop_tokens=stop)

        def written(these):
            prompts = self.ids(these)
            room = min(longest, self.model.config.block_size - max(map(len, prompts)))
            with autocast(self.device, self.dtype):
                return [text.ids for text in complete(self.model, prompts, room, settings)]

        return together(routes, lambda each: len(each.context), written)


class Base(RouteReader):
    """The base of answering.py, with LoRA."""

    @torch.no_grad()
    def hidden(self, routes):
        def states(these):
            rows = self.ids(these)
            ids, _ = collated([(row, []) for row in rows])
            with autocast(self.device, self.dtype):
                hidden = self.model.hidden(ids.to(self.device)).float()
            return [state[len(row) - 1] for row, state in zip(rows, hidden)]  # what stands behind is not seen

        return torch.stack(together(routes, lambda each: len(each.context), states))

    def answers(self, routes, longest=32):
        end = self.tokenizer.end_of_text
        found = self.complete(routes, (end,), longest)
        return [(self.tokenizer.decode([i for i in ids if i != end]), len(ids)) for ids in found]


class Writer(RouteReader):
    """A Tiny Thought Model, or any other reasoner."""

    def next_thoughts(self, routes, longest=64):
        step, *ends = (self.tokenizer.encode(character)[0] for character in ";#")
        ends = (*ends, self.tokenizer.end_of_text)
        found = self.complete(routes, (step, *ends), longest)
        return [(self.tokenizer.decode(ids[:-1]) if ids[-1] == step else None, len(ids)) for ids in found]


# ---- the router ----


class Router(nn.Module):
    """States of a base model (N, C) -> (N,): the log-odds that it would answer rightly now.

    `temperature` divides them, and is fitted after training: Guo et al. 2017, "On Calibration of Modern Neural
    Networks", section 4.2.
    """

    temperature: torch.Tensor

    def __init__(self, size, width=NUMBERS["width"]):
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, 1))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, states):
        return self.net(states)[..., 0] / self.temperature

    @torch.no_grad()
    def probabilities(self, states):
        return self(states.to(self.temperature.device)).sigmoid()


def fitted(states, right, held_states, held_right, seed):
    """A Router trained on states (N, C) and whether the base was right there (N,), as long as others gain by it.

    The same others give it its temperature.
    """
    torch.manual_seed(seed)
    router, generator = Router(states.shape[-1]).to(states.device), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(router.parameters(), NUMBERS["learning_rate"], weight_decay=NUMBERS["weight_decay"])
    least, best = math.inf, router.state_dict()
    for step in range(NUMBERS["steps"]):
        rows = torch.randint(len(states), (NUMBERS["batch_size"],), generator=generator)
        F.binary_cross_entropy_with_logits(router(states[rows]), right[rows].float()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 25 == 0:
            with torch.no_grad():
                loss = F.binary_cross_entropy_with_logits(router(held_states), held_right.float()).item()
            if loss < least:
                least, best = loss, copy.deepcopy(router.state_dict())
    router.load_state_dict(best)
    with torch.no_grad():
        logits = router(held_states)
        losses = {t: F.binary_cross_entropy_with_logits(logits / t, held_right.float()).item()
                  for t in torch.logspace(-1, 1, 201).tolist()}
    router.temperature.fill_(min(losses, key=lambda t: losses[t]))
    return router


def calibration_error(probabilities, right, bins=10):
    """The expected calibration error: how far, on average, what is believed is from what is so.

    sum over bins of |mean right - mean probability| n / N. Naeini et al. 2015; Guo et al. 2017, equation 3.
    """
    groups = {}
    for p, r in zip(probabilities, right, strict=True):
        groups.setdefault(min(int(p * bins), bins - 1), []).append((p, r))
    gaps = (abs(sum(p for p, _ in group) - sum(r for _, r in group)) for group in groups.values())
    return sum(gaps) / len(probabilities)


def load_router(path, device="cpu"):
    """(Router, the threshold that was chosen for it) of a checkpoint."""
    loaded = checkpoint.load(path, "router")
    router = Router(loaded["size"], loaded["run"]["width"])
    router.load_state_dict(loaded["router"])
    return router.to(device).eval(), loaded["threshold"]
