"""How a model writes: one token at a time, each drawn from what it thinks likely.

    generate(model, ids, 50, temperature=0.8, top_p=0.9)                      # tensor to tensor
    complete(model, [[5, 6, 7], [8]], 50, Sampling(stop_tokens=(0,)), samples=4)  # eight texts, two prompts
    for row, token, log_probability in stream(model, [[5, 6, 7]], 50): ...    # as they come

Shapes: B texts, T tokens so far, V = vocabulary size.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "02_attention"))
from evaluation import evaluating
from key_value_cache import left_pad
from logit_filters import ban, ban_repeated_ngrams, keep_min_p, keep_top_k, keep_top_p, penalize_repetition


@dataclass
class Sampling:
    """How a token is chosen, and when a text ends. As it stands: as likely as the model thinks, and never."""

    temperature: float = 1.0  # 0 takes the likeliest each time
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram: int | None = None
    min_new_tokens: int = 0  # before that many, no stop token is chosen
    stop_tokens: tuple[int, ...] = ()
    stop: Callable | None = None  # new ids of one text -> whether it has ended (writing.stop_at)

    def looking_back(self, logits, ids, new):
        """What the texts ids (B, T), of which the last `new` tokens are the model's, do to logits (B, V)."""
        if self.repetition_penalty != 1:
            logits = penalize_repetition(logits, ids, self.repetition_penalty)
        if new < self.min_new_tokens:
            logits = ban(logits, self.stop_tokens)
        if self.no_repeat_ngram is not None:
            logits = ban_repeated_ngrams(logits, ids, self.no_repeat_ngram)
        return logits

    def ends(self, ids):
        """Whether the new ids of a text have just ended it."""
        return ids[-1] in self.stop_tokens or (self.stop is not None and self.stop(ids))

    def choose(self, logits, numbers):
        """A token for each row of logits (B, V) -> (B,). `numbers` (B,), each of [0, 1), decide between them."""
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = logits / self.temperature
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None and self.top_p < 1:
            logits = keep_top_p(logits, self.top_p)
        if self.min_p is not None:
            logits = keep_min_p(logits, self.min_p)
        # one number per text, so that it depends on no other text: the first token at which the sum passes it
        summed = logits.softmax(-1).cumsum(-1)
        return torch.searchsorted(summed, numbers[:, None] * summed[:, -1:], right=True)[:, 0]


@dataclass
class Completion:
    """What was written: the new tokens, the stop token among them, and how likely the model found each."""

    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)

    @property
    def mean_log_probability(self):
        return sum(self.log_probabilities) / len(self.log_probabilities)


class Reading:
    """Texts that a model reads token by token and remembers: ids (B, T), -1 where a shorter text has not begun.

    Positions end at block_size, learned and rotary ones alike, and moving what is remembered to lower ones would mean
    to read it again. So the window slides in leaps: once block_size tokens are read, all but the last half block
    is forgotten, and that is read again from position 0. Each token sees between half a block and a block.
    """

    def __init__(self, model, prompts, max_new_tokens):
        if not prompts or not all(map(len, prompts)):
            raise ValueError("every prompt needs at least one token: take the one that ends a text to begin with")
        self.model = model
        self.block_size = model.config.block_size
        ids, _ = left_pad(prompts, padding_id=-1)
        self.ids = ids.to(model.head_weight.device)
        self.most = ids.shape[1] + max_new_tokens
        self.begin(self.block_size)

    def begin(self, count):
        """Forget all but the last `count` tokens."""
        self.unread = self.ids[:, -count:]
        padding = (self.unread < 0).sum(1)
        self.cache = self.model.new_cache(len(self.ids), self.most, padding if padding.any() else None)

    def next_logits(self):
        """Read what is new; what may follow it, (B, V)."""
        hidden = self.model.hidden(self.unread.clamp(min=0), cache=self.cache)  # (B, new, C)
        return self.model.head(hidden[:, -1]).float()

    def append(self, tokens):
        """Let each text go on with its token of tokens (B,)."""
        self.unread = tokens[:, None]
        self.ids = torch.cat([self.ids, self.unread], dim=1)
        if self.cache[0].length == self.block_size:
            self.begin(max(1, self.block_size // 2))

    def select(self, rows):
        """Go on with the texts of these rows, in this order; one several times makes copies."""
        self.ids, self.unread = self.ids[rows], self.unread[rows]
        for memory in self.cache:
            memory.select(rows)


@torch.no_grad()
def stream(model, prompts, max_new_tokens, settings=None, samples=1, generator=None):
    """Continue prompts (lists of ids, not all as long) `samples` times each: yield (row, token, log-probability).

    Row p * samples + s is sample s of prompt p, which is read once for all of them. Every text that has not ended gets
    a token before any gets the next; one that has ended is carried no further. The log-probability is the model's
    own, before temperature and filters. `generator`: one on the CPU, or a list with one for each row, which
    makes a row's tokens independent of what else is written. Beyond block_size the window slides: see Reading.
    """
    settings = settings or Sampling()
    with evaluating(model):
        reading = Reading(model, prompts, max_new_tokens)
        begins = reading.ids.shape[1]
        rows = list(range(len(prompts) * samples))
        for new in range(max_new_tokens):
            logits = reading.next_logits()  # (B, V)
            if new == 0 and samples > 1:
                copies = [row // samples for row in rows]
                reading.select(copies)
                logits = logits[copies]
            numbers = random_numbers(rows, generator).to(logits.device)
            tokens = settings.choose(settings.looking_back(logits, reading.ids, new), numbers)  # (B,)
            log_probabilities = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
            yield from zip(rows, tokens.tolist(), log_probabilities.tolist())

            reading.append(tokens)
            left = [i for i, ids in enumerate(reading.ids[:, begins:].tolist()) if not settings.ends(ids)]
            if not left:
                return
            if len(left) < len(rows):
                reading.select(left)
                rows = [rows[i] for i in left]


def random_numbers(rows, generator=None):
    """One number of [0, 1) for each row, from its own generator if it has one."""
    if isinstance(generator, list):
        return torch.cat([torch.rand(1, generator=generator[row]) for row in rows])
    return torch.rand(len(rows), generator=generator)


def collect(tokens, count):
    """What `stream` yields for `count` rows, as a list with a Completion for each."""
    texts = [Completion() for _ in range(count)]
    for row, token, log_probability in tokens:
        texts[row].ids.append(token)
        texts[row].log_probabilities.append(log_probability)
    return texts


def complete(model, prompts, max_new_tokens, settings=None, samples=1, generator=None):
    """`stream` run to its end: a list with a Completion for each row."""
    tokens = stream(model, prompts, max_new_tokens, settings, samples, generator)
    return collect(tokens, len(prompts) * samples)


def best_of(texts, count):
    """Of each `count` Completions that follow one another, the one that the model finds likeliest per token."""
    groups = [texts[i : i + count] for i in range(0, len(texts), count)]
    return [max(group, key=lambda text: text.mean_log_probability) for group in groups]


def generate(model, ids, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None, **settings):
    """Continue each row of ids (B, T) by max_new_tokens -> (B, T + max_new_tokens).

    `settings` are those of Sampling. A text that ends earlier repeats its last token until all have ended. Beyond
    the model's block_size the oldest tokens are forgotten, half a block at a time.
    """
    settings = Sampling(temperature, top_k, top_p, **settings)
    texts = [text.ids for text in complete(model, ids.tolist(), max_new_tokens, settings, generator=generator)]
    longest = max(map(len, texts))
    rows = [text + text[-1:] * (longest - len(text)) for text in texts]
    return torch.cat([ids, torch.tensor(rows, dtype=ids.dtype, device=ids.device)], dim=1)
