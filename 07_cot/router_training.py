"""Where a router comes from: what a base answers behind each number of thoughts, and when it should have stopped.

All thoughts of a question are written once, and the base is asked behind each: then it is known what any threshold
would do, or no router at all, or one that knows the answers.
Shapes: N states, C = embedding size.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "04_training"))
import checkpoint
from answering import ensure_answers
from fine_tuning import load_model
from flags import shown
from router import ALWAYS, NUMBERS, Base, Route, Writer, calibration_error, fitted, route
from tasks import find
from thought_distillation import ensure_tiny
from thought_plan import by_level, writing

KEPT = 0.98  # of always-think's accuracy, which the chosen threshold has to keep on validation problems
CALIBRATED, CHOSEN = 24, 40  # validation problems of each difficulty, for the temperature and for the threshold
REAL_CALIBRATED, REAL_CHOSEN = 10, 12  # of those for real weights, which take longer


@dataclass
class Ways:
    """A question with all its thoughts, and for each number of them, from 0 on, what would be if it stopped there.

    Where the writer said that there are no more, that is a last way to stop: a token later than with its last thought.
    """

    route: Route
    right: list[bool]  # whether the base answers rightly
    written: list[int]  # tokens of thoughts and answer
    weight: float = 1.0

    def stop(self, threshold):
        """Which of these ways is taken with a threshold."""
        return next((k for k, p in enumerate(self.route.believed) if p >= threshold), len(self.right) - 1)

    def thoughts(self, k):
        """How many thoughts the k-th way takes."""
        return min(k, len(self.route.thoughts))

    @property
    def oracle(self):
        """The fewest thoughts with which the base is right; none if it never is."""
        return self.right.index(True) if True in self.right else 0


def all_ways(base, writer, probabilities, family, questions, budget):
    """[Ways] of questions."""
    routes = route(base, writer, probabilities, questions, ALWAYS, budget)
    places = [Route(each.question, each.thoughts[:k]) for each in routes for k in range(len(each.thoughts) + 1)]
    answers, found = iter(base.answers(places)), []
    for each in routes:
        right, written = [], []
        for k in range(len(each.thoughts) + 1):
            answer, tokens = next(answers)
            right.append(answer is not None and family.right(each.question, answer))
            written.append(sum(each.tokens[:k]) + tokens)
        if each.ended:
            right.append(right[-1])
            written.append(each.written)
        found.append(Ways(each, right, written))
    return found


def beliefs(ways):
    """[(what was believed, whether the base was right)] at each decision."""
    return [pair for each in ways for pair in zip(each.route.believed, each.right)]


def mean_of(ways, value):
    return sum(each.weight * value(each) for each in ways) / sum(each.weight for each in ways)


def outcome(ways, stop):
    """(share right, tokens written) for a question, where `stop(Ways)` says behind which thought to answer."""
    return (mean_of(ways, lambda each: each.right[stop(each)]), mean_of(ways, lambda each: each.written[stop(each)]))


def sweep(ways):
    """[(threshold, share right, tokens written)] from never thinking to always."""
    thresholds = [0.0, *(1 - 2.0 ** (-i / 4) for i in range(1, 49)), ALWAYS]
    return [(t, *outcome(ways, lambda each, t=t: each.stop(t))) for t in thresholds]


def choose_threshold(ways):
    """The threshold of the fewest tokens that keeps enough of always-think's accuracy."""
    points = sweep(ways)
    return min((tokens, t) for t, right, tokens in points if right >= KEPT * points[-1][1])[1]


# ---- training ----


def unsure(states):
    """A router that has learned nothing."""
    return torch.zeros(len(states))


def ensure_router(plan, seed, args):
    """The path of the router of a base with LoRA and a Tiny Thought Model; trained now if it is not there."""
    path = plan.path("router", seed, [NUMBERS, KEPT])
    with FileLock(f"{path}.lock"):
        if not path.exists():
            base, writer = open_pieces(plan, seed, args)
            print(f"no {shown(path)} yet: training it first")
            train_router(plan, seed, base, writer, path)
    return path


def weighed(ways, levels):
    """Ways with such weights that each difficulty counts as much as any other; `levels` has the number of each."""
    sizes = iter([1 / count for count in levels for _ in range(count)])
    for each in ways:
        each.weight = next(sizes)
    return ways


def train_router(plan, seed, base, writer, path):
    """Train one on problems of its own, choose its threshold on others, and keep it at a path."""
    family = find(plan.data)

    def examined(split, count, seed, probabilities=unsure):
        levels = by_level(plan, split, count, seed)
        questions = [each.question for level in levels for each in level]
        ways = all_ways(base, writer, probabilities, family, questions, budget_of(plan))
        states = torch.stack([state for each in ways for state in each.route.states])
        right = torch.tensor([r for _, r in beliefs(ways)], device=states.device)
        return weighed(ways, list(map(len, levels))), states, right

    _, *train = examined("train", plan.routed, seed + 500)  # drawn anew: hardly any was seen by base or LoRA
    calibrated, chosen = (REAL_CALIBRATED, REAL_CHOSEN) if plan.load_model else (CALIBRATED, CHOSEN)
    _, *held = examined("validation", calibrated, seed + 501)
    router = fitted(*train, *held, seed=seed)
    ways, *_ = examined("validation", chosen, seed + 502, router.probabilities)
    threshold = choose_threshold(ways)
    believed, right = zip(*beliefs(ways))
    error = calibration_error(believed, right)
    print(f"router: {len(train[1]):,} states, the base right at {train[1].float().mean():.1%}; temperature"
          f" {router.temperature:.2f}, threshold {threshold:.3f}, calibration error {error:.3f} on validation problems")
    checkpoint.save(path, "router", router=router.state_dict(), threshold=threshold, size=train[0].shape[-1],
                    run={"data": plan.data, "seed": seed, **NUMBERS})


def budget_of(plan):
    """Thoughts that a question may have: half as many again as the hardest problem needs."""
    return plan.hardest * 3 // 2


def open_pieces(plan, seed, args):
    """(base with LoRA, writer of thoughts); what is missing is trained now."""
    answers, tiny = ensure_answers(plan, seed, args), ensure_tiny(plan, seed, args)
    (model, dtype, tokenizer), (small, small_dtype, small_tokenizer) = (
        load_model(path, args) for path in (answers, tiny))
    return (Base(model, tokenizer, dtype, mark=plan.mark),
            Writer(small, small_tokenizer, small_dtype, writing(plan, small_tokenizer)))
