"""Questions about a text as rows of tokens, [CLS] question [SEP] text [SEP], and where the answer stands in them."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
from batches import in_turn
from docs_questions import questions
from flags import UserError

POOL = 8  # batches that are filled together, so that rows of similar length meet


@dataclass(frozen=True)
class Example:
    """A row of tokens, and where in the text (start, end) stands what each of them says."""

    ids: list
    begin: int  # of the text's tokens
    places: list  # (start, end) in characters, of the text's tokens only
    context: str
    span: tuple | None = None  # first and last token of the answer, if it is known

    def text(self, first, last):
        return self.context[self.places[first - self.begin][0] : self.places[last - self.begin][1]].strip()


def encode(question, context, tokenizer, marks, answer=None):
    """The Example of a question about a text; `answer` is (start, end) in characters."""
    asked = tokenizer.encode(question, disallowed_special=())
    if tokenizer.kind == "wordpiece":
        ids, places = tokenizer.encode_with_offsets(context)
    else:
        ids = tokenizer.encode(context, disallowed_special=())
        places = tokenizer.offsets(ids)
    begin, span = len(asked) + 2, None
    if answer:
        touched = [i for i, (start, end) in enumerate(places) if end > answer[0] and start < answer[1]]
        span = begin + touched[0], begin + touched[-1]
    return Example([marks.cls, *asked, marks.sep, *ids, marks.sep], begin, places, context, span)


def examples(split, tokenizer, marks, block_size):
    """(questions of a split that fit into a block, their Examples). Raises UserError if none does."""
    asked = questions(split)
    found = [(each, encode(each.question, each.context, tokenizer, marks, (each.start, each.end))) for each in asked]
    fit = [(each, example) for each, example in found if len(example.ids) <= block_size]
    if len(fit) < len(found):
        print(f"{len(found) - len(fit):,} of {len(found):,} questions, {split}, have more tokens than the model takes,"
              f" {block_size}: left out")
    if not fit:
        raise UserError(f"no question fits into the model's block_size {block_size}: take one with a larger block")
    return zip(*fit)


def padded(some, marks):
    """Examples -> (ids, targets, mask, segments, allowed); padding is neither looked at nor pointed at.

    targets (B, T) has the first and last token of the answer, and then -100; the trainer weighs by what is not -100.
    mask (B, 1, 1, T) is True but at padding, segments (B, T) 1 from the text on, allowed (B, T) True in the text.
    """
    shape = len(some), max(len(each.ids) for each in some)
    ids, targets = torch.full(shape, marks.pad), torch.full(shape, -100)
    segments, (mask, allowed) = torch.zeros(shape, dtype=torch.long), torch.zeros(2, *shape, dtype=torch.bool)
    for b, each in enumerate(some):
        T = len(each.ids)
        ids[b, :T], mask[b, :T], segments[b, each.begin : T] = torch.tensor(each.ids), True, 1
        allowed[b, each.begin : T - 1] = True
        if each.span:
            targets[b, :2] = torch.tensor(each.span)
    return ids, targets, mask[:, None, None], segments, allowed


def batches(train, marks, batch_size, seed):
    """step -> a batch; all examples come once before any comes again, those of similar length together."""
    turn = in_turn(len(train), batch_size * POOL, seed)

    def batch(step):
        pool, number = divmod(step, POOL)
        pool_in_order = sorted((train[i] for i in turn(pool)), key=lambda each: len(each.ids))
        at = np.random.default_rng((seed, pool)).permutation(POOL)[number] * batch_size
        return padded(pool_in_order[at : at + batch_size], marks)

    return batch
