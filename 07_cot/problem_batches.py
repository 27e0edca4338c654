"""Problems as tokens: one for each character, and batches in which only what the model has to write counts."""

import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
from char_tokenizer import CharTokenizer
from family import WAIT
from objectives import kinds_of
from tasks import CHARACTERS

STYLES = ("chain", "direct")


def new_tokenizer():
    return CharTokenizer(CHARACTERS)


def written(problem, style):
    """What a model has to write after the question: all thoughts, or only the answer."""
    return problem.chain if style == "chain" else f"#{problem.answer}"


def example(problem, style, tokenizer, slips=0.0, random=None):
    """(ids of the question, ids of what is written and the end, the kind of each of these, -1 where it is not learned).

    A share `slips` of the steps of a chain comes after a wrong one, which is not learned, and "wait", which is: so a
    model learns to take back what it should not have said. Ye et al. 2024, "Physics of Language Models: Part 2.2".
    """
    if style == "direct" or not slips:
        text = written(problem, style)
        kinds = kinds_of(text)
    else:
        assert random is not None  # slips need chance
        text, kinds = "", []
        for step in problem.steps:
            if random.random() < slips:
                wrong = f"{slip(step, problem.steps, random)};"
                text, kinds = f"{text}{wrong}{WAIT};", kinds + [-1] * len(wrong) + [0] * (len(WAIT) + 1)
            text, kinds = f"{text}{step};", kinds + kinds_of(f"{step};")[:-1]
        answer = f"#{problem.answer}"
        text, kinds = text + answer, kinds + kinds_of(answer)
    return tokenizer.encode(problem.question), [*tokenizer.encode(text), tokenizer.end_of_text], kinds


def slip(step, steps, random):
    """A step that is wrong: with another last digit, or in the place of another one."""
    if step[-1].isdigit():
        return step[:-1] + str((int(step[-1]) + random.integers(1, 10)) % 10)
    others = [other for other in steps if other != step]
    return others[random.integers(len(others))] if others else step


def padded(examples):
    """Examples -> (ids, targets, kinds), each (B, T): what comes behind a question is a target, the question is not."""
    T = max(len(question) + len(answer) for question, answer, _ in examples) - 1
    ids, kinds = torch.zeros(2, len(examples), T, dtype=torch.long)
    targets = torch.full((len(examples), T), -100)
    for row, (question, answer, kind) in enumerate(examples):
        both, begin = torch.tensor(question + answer), len(question) - 1
        ids[row, : len(both) - 1] = both[:-1]
        kind = torch.tensor(kind)
        targets[row, begin : len(both) - 1] = both[len(question) :].masked_fill(kind < 0, -100)
        kinds[row, begin : len(both) - 1] = kind.clamp(min=0)
    return ids, targets, kinds


def problem_batches(examples, tokens, seed):
    """step -> a batch of about so many `tokens`, whatever their lengths; all examples come once before any comes again.

    Models that write long and short texts for the same problems so work as long for each step.
    """
    longest = max(len(question) + len(answer) for question, answer, _ in examples)
    count = min(max(1, tokens // longest), len(examples))
    an_epoch = len(examples) // count

    @lru_cache(maxsize=2)
    def order(epoch):
        return np.random.default_rng((seed, epoch)).permutation(len(examples)).tolist()

    def batch(step):
        epoch, at = divmod(step, an_epoch)
        return padded([examples[i] for i in order(epoch)[at * count : (at + 1) * count]])

    return batch
