"""LoRA makes the base answer instead of think: at once, or with thoughts in its context.

Shapes: B texts, T tokens.
"""

import numpy as np
from family import encoded, write_steps
from thinking_base import ensure_base
from thought_adapters import train_adapters
from thought_plan import REAL, ensured, for_training, row_of, validation_problems

ANSWERS = {"learning_rate": 5e-3, "tokens": 2048}
REMAINING = 4  # steps that may be missing where answers are learned; and all of them, behind the question


def answer_row(problem, count, tokenizer, mark=""):
    """(ids, targets) of a question, its first `count` steps, and the answer, which is what is learned.

    What is said first is learned behind the question and behind each of the last steps, too: one text teaches to answer
    with any number of thoughts. There is no # before the answer. So it comes from the very state that knows what is
    ahead, and that the router reads. With a `mark` before the answer that is the state, and there is only one.
    """
    said = [*encoded(problem.answer, tokenizer), tokenizer.end_of_text]
    ids, targets = row_of(encoded(problem.question + write_steps(problem.steps[:count]) + mark, tokenizer), said)
    if mark:
        return ids, targets
    for earlier in {0, *range(max(0, len(problem.steps) - REMAINING), count)} - {count}:
        targets[len(encoded(problem.question + write_steps(problem.steps[:earlier]), tokenizer)) - 1] = said[0]
    return ids, targets


def ensure_answers(plan, seed, args):
    """The path of what LoRA adds to the base, so that it answers, whatever thoughts stand behind the question."""
    path, base = plan.path("answers", seed, ANSWERS), ensure_base(plan, args)
    return ensured(path, "adapters", lambda: train_answers(plan, seed, args, path, base))


def train_answers(plan, seed, args, path, base):
    settings = REAL if plan.load_model else ANSWERS

    def rows_of(tokenizer):
        random = np.random.default_rng(seed)
        train = [answer_row(each, context(len(each.steps), random), tokenizer, plan.mark)
                 for each in for_training(plan, plan.problems, seed)]
        return train, [answer_row(each, len(each.steps), tokenizer, plan.mark)
                       for each in validation_problems(plan, seed)]

    run = {"data": plan.data, "piece": "answers", "seed": seed, "steps": plan.answer_steps, "rank": plan.rank,
           **settings}
    return train_adapters(path, base, plan, seed, args, rows_of, settings, run)


def context(length, random):
    """With how many of a problem's steps it is learned from: half of the time all, since that teaches most."""
    return length if random.random() < 0.5 else int(random.integers(length + 1))
