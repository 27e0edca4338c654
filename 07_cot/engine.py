"""What answers a conversation: a model on this machine, or a server (endpoint.py), both asked in the same way.

    engine = load_engine("smollm2", args)
    engine.replies([[said("user", "What is 2 + 2?")]], Request(samples=4, temperature=0.8))  # 4 Replies for each
"""

import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from chat_template import prompt_tokens
from evaluation import autocast
from fast_decode import for_writing
from fine_tuning import open_model
from flags import UserError
from lm_model import placed
from sampling import Sampling, complete, stream
from writing import stop_at, until

AT_ONCE = 32  # texts in a batch


@dataclass(frozen=True)
class Request:
    """How replies are drawn."""

    samples: int = 1
    max_new_tokens: int = 256
    temperature: float = 0.0  # 0 takes the likeliest token each time
    top_p: float = 1.0
    stop: tuple[str, ...] = ()  # texts at which a reply ends; they are not part of it
    seed: int = 1337


@dataclass(frozen=True)
class Reply:
    """What was said, without what ended it; how many tokens that took, the end among them."""

    text: str
    tokens: int
    ended: bool = True  # False: max_new_tokens came first


class LocalEngine:
    """A GPT that was trained here, or real weights. `options` are those of its chat template."""

    def __init__(self, name, model, tokenizer, dtype=torch.float32, talks=True, options=None):
        self.name, self.tokenizer, self.talks, self.options = name, tokenizer, talks, options or {}
        self.model, self.dtype = for_writing(model, dtype)
        self.ends = tuple({*tokenizer.end_tokens, tokenizer.end_of_text})

    def ids(self, messages):
        """The ids of a conversation; a reasoner knows no turns, and reads the last question alone."""
        if not self.talks:
            return self.tokenizer.encode(messages[-1]["content"], disallowed_special=())
        return prompt_tokens(messages, self.tokenizer, **self.options)

    def prompt(self, messages):
        """The ids of a conversation. Raises UserError where no room is left for a reply."""
        ids, block_size = self.ids(messages), self.model.config.block_size
        if len(ids) >= block_size:
            raise UserError(f"the conversation has {len(ids):,} tokens, and {self.name} reads {block_size:,}: make it"
                            " shorter, with fewer examples, say")
        return ids

    def settings(self, request):
        stop = stop_at(self.tokenizer, request.stop) if request.stop else None
        return Sampling(request.temperature, top_p=request.top_p, stop_tokens=self.ends, stop=stop)

    def replies(self, conversations, request):
        """For each conversation, a list of messages, a list of `request.samples` Replies.

        A reply depends on its own conversation, its number and the seed alone, and on nothing that is asked beside it.
        """
        prompts, block_size = [self.prompt(messages) for messages in conversations], self.model.config.block_size
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # alike ones together: little padding
        roomy = [i for i in order if len(prompts[i]) + request.max_new_tokens <= block_size]
        count = max(1, AT_ONCE // request.samples)
        batches = [roomy[first : first + count] for first in range(0, len(roomy), count)]
        batches += [[i] for i in order[len(roomy) :]]  # these have less room than others, each its own
        found: list = [None] * len(prompts)
        for these in batches:
            room = min(request.max_new_tokens, block_size - len(prompts[these[-1]]))
            generators = [generator(prompts[i], sample, request.seed)
                          for i in these for sample in range(request.samples)]
            with autocast(self.model.head_weight.device, self.dtype):
                texts = complete(self.model, [prompts[i] for i in these], room, self.settings(request),
                                 request.samples, generators)
            for n, i in enumerate(these):
                own = texts[n * request.samples : (n + 1) * request.samples]
                found[i] = [self.reply(text.ids, request) for text in own]
        return found

    def reply(self, ids, request):
        words = self.tokenizer.decode([token for token in ids if token not in self.ends])
        text = "".join(until([words], request.stop))
        return Reply(text, len(ids), ids[-1] in self.ends or text != words)

    def pieces(self, messages, request):
        """One reply, yielded as texts while it is written."""
        ids = self.prompt(messages)
        room = min(request.max_new_tokens, self.model.config.block_size - len(ids))
        generators = [generator(ids, 0, request.seed)]
        with autocast(self.model.head_weight.device, self.dtype):
            written = (token for _, token, _ in stream(self.model, [ids], room, self.settings(request),
                                                       generator=generators) if token not in self.ends)
            yield from until(self.tokenizer.stream(written), request.stop)


def generator(ids, sample, seed):
    """The source of chance of one sample of a prompt."""
    return torch.Generator().manual_seed(zlib.crc32(np.array([seed, sample, *ids], dtype="int64").tobytes()))


def load_engine(name, args):
    """The LocalEngine of a checkpoint, or of a folder, file or name of real weights.

    `args` says on which device and in which dtype. Raises UserError for what can't be loaded.
    """
    model, tokenizer, loaded = open_model(name)
    model, dtype = placed(model, args)
    return LocalEngine(Path(name).name, model, tokenizer, dtype, not (loaded and "style" in loaded["run"]))
