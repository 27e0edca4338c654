"""What a model writes, brought to the terminal: as it comes if it is one text, whole if there are several."""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from beam_search import beam_search
from evaluation import autocast
from sampling import Completion, Sampling, best_of, collect, stream

BATCH = 16  # prompts that are continued at once


def stop_at(tokenizer, strings):
    """A `stop` for Sampling: whether the new ids have just said one of the strings."""
    wanted = [string.encode("utf-8") for string in strings]
    longest = max(map(len, wanted))  # each token has a byte at least: no more tokens than that need a look

    def stop(ids):
        end = tokenizer.decode_bytes(ids[-longest:])
        return any(each in end for each in wanted)

    return stop


def until(pieces, strings):
    """Yield the pieces of a text, up to the first of the strings; what may be the beginning of one waits.

    ["to be", " or n", "ot"], [" not"] -> "to be", " or"; with "or" for "ot" -> "to be", " or", " nor".
    """
    waiting = ""
    for piece in pieces:
        waiting += piece
        if found := [at for string in strings if (at := waiting.find(string)) >= 0]:
            yield waiting[: min(found)]
            return
        beginnings = [n for string in strings for n in range(1, len(string)) if waiting.endswith(string[:n])]
        sure = len(waiting) - max(beginnings, default=0)
        yield waiting[:sure]
        waiting = waiting[sure:]
    yield waiting


class Stopwatch:
    """Counts tokens and takes their time: how long the first one took, and how many a second came after it."""

    def __init__(self):
        self.began, self.first, self.count = time.perf_counter(), 0.0, 0

    def watch(self, tokens):
        for token in tokens:
            self.first = self.first or self.seconds
            self.count += 1
            yield token

    @property
    def seconds(self):
        return time.perf_counter() - self.began

    def line(self, stats):
        line = f"---- ({self.count} tokens, {self.seconds:.1f} s"
        if stats and self.count > 1:
            rate = (self.count - 1) / (self.seconds - self.first)
            line += f": the first after {self.first:.3f} s, then {rate:.1f} tokens/s"
        return line + ")"


def chosen_settings(args, tokenizer, stop_tokens=()):
    """What the flags of generation say about sampling."""
    return Sampling(
        args.temperature, args.top_k, args.top_p, args.min_p, args.repetition_penalty, args.no_repeat_ngram,
        args.min_new_tokens, stop_tokens, stop_at(tokenizer, args.stop) if args.stop else None,
    )


def write(model, dtype, tokenizer, prompts, args, stop_tokens=()):
    """Print the prompts (lists of ids) and how the model goes on with each, as the flags of generation say."""
    torch.manual_seed(args.seed)
    settings, watch = chosen_settings(args, tokenizer, stop_tokens), Stopwatch()
    with autocast(model.head_weight.device, dtype):
        if len(prompts) == args.samples == args.best_of == args.beams == 1:
            print(f"---- prompt\n{tokenizer.decode(prompts[0])}\n---- the model goes on")
            write_one(model, tokenizer, prompts[0], settings, watch, args)
        else:
            for first in range(0, len(prompts), BATCH):
                write_several(model, tokenizer, prompts[first : first + BATCH], settings, watch, args)
    print(watch.line(args.stats))


def pieces(model, tokenizer, prompt, settings, watch, args, text):
    """Yield what follows a prompt, piece by piece, while it is written; its tokens go to `text`, a Completion."""
    def shown():
        steps = stream(model, [prompt or [tokenizer.end_of_text]], args.max_new_tokens, settings)
        for _, token, log_probability in watch.watch(steps):
            text.ids.append(token)
            text.log_probabilities.append(log_probability)
            if token not in settings.stop_tokens:
                yield token

    return until(tokenizer.stream(shown()), args.stop)


def write_one(model, tokenizer, prompt, settings, watch, args):
    """Print what follows a prompt while it is written."""
    text = Completion()
    for piece in pieces(model, tokenizer, prompt, settings, watch, args, text):
        print(piece, end="", flush=True)
    print()
    if args.logprobs:
        print_log_probabilities(tokenizer, text)


def write_several(model, tokenizer, prompts, settings, watch, args):
    """Print what follows each of some prompts, when all have come to their ends."""
    starts = [prompt or [tokenizer.end_of_text] for prompt in prompts]
    if args.beams > 1:
        found = [beam_search(model, start, args.max_new_tokens, args.beams, args.length_penalty, args.early_stopping,
                             **vars(settings)) for start in starts]
        texts = [Completion(list(watch.watch(beams[0][1]))) for beams in found]
    else:
        count = max(args.samples, args.best_of)
        steps = stream(model, starts, args.max_new_tokens, settings, count)
        texts = collect(watch.watch(steps), count * len(starts))
        if args.best_of > 1:
            texts = best_of(texts, args.best_of)
    for i, text in enumerate(texts):
        number, sample = divmod(i, args.samples)
        if sample == 0:
            print(f"---- prompt\n{tokenizer.decode(prompts[number])}")
        print("---- the model goes on" + (f", sample {sample + 1} of {args.samples}" if args.samples > 1 else ""))
        ids = [token for token in text.ids if token not in settings.stop_tokens]
        print("".join(until([tokenizer.decode(ids)], args.stop)))
        if args.logprobs:
            print_log_probabilities(tokenizer, text)


def print_log_probabilities(tokenizer, text):
    print(f"---- log-probability of each token, mean {text.mean_log_probability:.3f}")
    for token, log_probability in zip(text.ids, text.log_probabilities):
        print(f"{log_probability:8.3f}  {tokenizer.decode([token])!r}")
