"""The Tiny Thought Model, its router and the loop: beside hand-made bases and brute force."""

import math

import numpy as np
import pytest
import router_curve
import torch
import torch.nn.functional as F
from answering import answer_row, context
from chains import think
from distill import Distilled, divergence
from gpt import GPT, GPTConfig
from problem_batches import new_tokenizer
from reasoner import PARTS
from router import ALWAYS, Base, Route, Router, Writer, calibration_error, fitted, route
from router_training import Ways, all_ways, choose_threshold, outcome, sweep, weighed
from sampling import Sampling
from tasks import FAMILIES, draw
from thinking_base import Foresight, grown
from thought_distillation import own_writing
from thought_plan import Plan, chain_row, collated, even_batches

TOKENIZER = new_tokenizer()
ARITHMETIC = FAMILIES["arithmetic"]


def tiny(seed=0):
    torch.manual_seed(seed)
    parts = PARTS | {"key_value_head_count": 2, "window": 4, "window_layers": 1}
    return GPT(GPTConfig(TOKENIZER.vocab_size, 32, 128, 2, 2, **parts)).eval()


class Scripted:
    """A base that is right behind so many thoughts, and a writer that has so many and counts how often it is asked."""

    def __init__(self, needs, has):
        self.needs, self.has, self.asked = needs, has, 0

    def count(self, question):
        return len(question)

    def hidden(self, routes):
        return torch.tensor([[float(len(each.thoughts) - self.needs[each.question])] for each in routes])

    def answers(self, routes):
        return [("yes" if len(each.thoughts) >= self.needs[each.question] else "no", 3) for each in routes]

    def next_thoughts(self, routes):
        self.asked += len(routes)
        return [(f"t{len(each.thoughts)}", 3) if len(each.thoughts) < self.has[each.question] else (None, 1)
                for each in routes]


def knowing(states):
    return (states[:, 0] >= 0).float() * 0.9


# ---- the loop ----


def test_a_question_gets_the_thoughts_that_it_needs_and_then_leaves_the_batch():
    needs, has = {"a?": 0, "b?": 1, "c?": 3, "d?": 9}, {"a?": 5, "b?": 5, "c?": 5, "d?": 4}
    models = Scripted(needs, has)
    a, b, c, d = route(models, models, knowing, list(needs), threshold=0.5, budget=6)
    assert [len(each.thoughts) for each in (a, b, c, d)] == [0, 1, 3, 4]
    assert [each.answer for each in (a, b, c, d)] == ["yes", "yes", "yes", "no"]
    assert [each.written for each in (a, b, c, d)] == [3, 6, 12, 4 * 3 + 1 + 3], "the end of thoughts is a token, too"
    assert models.asked == 0 + 1 + 3 + 5, "a question that is done is not to be asked again"
    assert d.ended and not c.ended and c.believed == pytest.approx([0, 0, 0, 0.9])
    assert (a.read, b.read) == (2, 2 + 2 + 3), "base and writer read the question, the base the thoughts"


def test_never_always_and_the_budget():
    models = Scripted({"a?": 2, "b?": 0}, {"a?": 5, "b?": 2})
    assert [each.thoughts for each in route(models, models, knowing, ["a?", "b?"], 0.0, 6)] == [[], []]
    assert [len(each.thoughts) for each in route(models, models, knowing, ["a?", "b?"], ALWAYS, 6)] == [5, 2]
    assert [len(each.thoughts) for each in route(models, models, knowing, ["a?", "b?"], ALWAYS, 3)] == [3, 2]


def questions(count=24):
    return [each.question for level in (1, 2, 3) for each in draw("arithmetic", "validation", count // 3, 3, level)]


@pytest.fixture(scope="module")
def pieces():
    """A base, a writer that writes steps now and then, and a router, none of which has learned much."""
    writer = tiny(1)
    optimizer = torch.optim.AdamW(writer.parameters(), 1e-2)
    batch = collated([chain_row(each.question, each.chain, TOKENIZER) for level in (1, 2, 3)
                      for each in draw("arithmetic", "train", 16, 1, level)])
    for _ in range(150):
        writer(*batch)[1].backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.manual_seed(2)
    router = Router(32)
    base = Base(tiny(0), TOKENIZER)
    states = router(base.hidden([Route(each) for each in questions()]))
    router.net[-1].bias.data.sub_(states.median())
    router.temperature.fill_(states.std())  # believed are all kinds of things
    return base, Writer(writer.eval(), TOKENIZER), router


@pytest.mark.slow
def test_a_question_alone_goes_the_same_way(pieces):
    base, writer, router = pieces
    together = route(base, writer, router.probabilities, questions(), 0.47, 5)
    alone = [route(base, writer, router.probabilities, [q], 0.47, 5)[0] for q in questions()]
    assert [each.thoughts for each in together] == [each.thoughts for each in alone]
    assert [(each.answer, each.written, each.read) for each in together] == [
        (each.answer, each.written, each.read) for each in alone]
    assert len({len(each.thoughts) for each in together}) > 1, "the test needs routes of several lengths"


def test_all_ways_foresee_what_each_threshold_does(pieces):
    base, writer, router = pieces
    ways = all_ways(base, writer, router.probabilities, ARITHMETIC, questions(), 5)
    for threshold in (0.0, 0.3, 0.47, 0.7, ALWAYS):
        routes = route(base, writer, router.probabilities, questions(), threshold, 5)
        for way, each in zip(ways, routes):
            k = way.stop(threshold)
            assert way.thoughts(k) == len(each.thoughts), f"another way at {threshold}"
            assert way.written[k] == each.written, "is the token that ends the thoughts counted?"
            assert router_curve.read(way, k) == each.read
            assert way.right[k] == (each.answer is not None and ARITHMETIC.right(each.question, each.answer))


def test_the_state_is_that_of_the_last_token(pieces):
    base, *_ = pieces
    routes = [Route("3*9+6?", ["3*9=7"]), Route("1+1?")]
    states = base.hidden(routes)
    for each, state in zip(routes, states):
        with torch.no_grad():
            wanted = base.model.hidden(torch.tensor([TOKENIZER.encode(each.context)]))[0, -1]
        torch.testing.assert_close(state, wanted, msg="is it the state of the padding?")


# ---- the router ----


def test_a_router_learns_and_is_calibrated():
    torch.manual_seed(0)
    states = torch.randn(4000, 8)
    right = torch.rand(4000) < torch.sigmoid(3 * states[:, 0])
    router = fitted(states[:2000], right[:2000], states[2000:3000], right[2000:3000], seed=1)
    believed = router.probabilities(states[3000:])
    truth = torch.sigmoid(3 * states[3000:, 0])
    assert (believed - truth).abs().mean() < 0.15
    assert calibration_error(believed.tolist(), right[3000:].tolist()) < 0.05


def test_temperature_cools_a_router_that_is_too_sure():
    """Few states and much training: by heart. Held-out states tell how much to believe."""
    torch.manual_seed(0)
    states = torch.randn(2100, 16)
    right = torch.rand(2100) < torch.sigmoid(states[:, 0])
    router = fitted(states[:100], right[:100], states[100:1100], right[100:1100], seed=1)
    assert router.temperature > 1.5
    cooled = F.binary_cross_entropy_with_logits(router(states[1100:]), right[1100:].float())
    assert cooled < F.binary_cross_entropy_with_logits(router(states[1100:]) * router.temperature, right[1100:].float())


def test_calibration_error_equals_the_formula():
    random = np.random.default_rng(0)
    p, right = random.random(500), random.random(500) < 0.6
    wanted = sum(abs(right[mask].mean() - p[mask].mean()) * mask.mean()
                 for mask in (np.minimum((p * 10).astype(int), 9) == i for i in range(10)) if mask.any())
    assert calibration_error(p.tolist(), right.tolist()) == pytest.approx(wanted)
    assert calibration_error([1.0, 0.0], [True, False]) == 0


def way(believed, right):
    return Ways(Route("?", believed=believed), right, [3 + 6 * k for k in range(len(right))])


def test_the_threshold_of_the_fewest_tokens_that_keeps_enough():
    easy = [way([0.95, 0.95], [True, True]) for _ in range(50)]
    hard = [way([0.5, 0.97], [False, True]) for _ in range(50)]
    threshold = choose_threshold(easy + hard)
    assert 0.5 < threshold <= 0.95
    assert outcome(easy + hard, lambda each: each.stop(threshold)) == (1.0, 6.0)
    assert sweep(easy + hard)[0][1:] == (0.5, 3.0) and sweep(easy + hard)[-1][1:] == (1.0, 9.0)
    assert outcome([*easy, *hard, way([0.1, 0.1], [False, False])], lambda each: each.oracle)[1] < 6, (
        "an oracle does not think in vain")


def test_each_difficulty_counts_the_same():
    ways = weighed([way([1.0], [True]), *(way([1.0], [False]) for _ in range(9))], [1, 9])
    assert outcome(ways, lambda each: 0)[0] == pytest.approx(0.5)


# ---- the base ----


def test_foresight_asks_for_what_is_to_come_at_each_boundary():
    """The loss, beside one that is added up token by token."""
    model, ahead = tiny(), 4
    loss_of = Foresight(model, TOKENIZER, ahead, 0.3)
    texts = [("3*9+6?", "3*9=7;7+6=3;#3"), ("1+1?", "1+1=2;#2")]
    ids, targets = collated([chain_row(*text, TOKENIZER) for text in texts])
    with torch.no_grad():
        plain = model(ids, targets)[1]
        hidden = model.hidden(ids)
        losses, places = 0.0, 0
        for row, text in enumerate(map("".join, texts)):
            whole = [*TOKENIZER.encode(text), TOKENIZER.end_of_text]
            for at in (i for i, character in enumerate(text) if character in "?;"):
                places += 1
                scores = loss_of.heads(hidden[row, at]).view(ahead + 1, -1).log_softmax(-1)
                losses -= sum(scores[h, whole[at + 2 + h]] for h in range(ahead) if at + 2 + h < len(whole))
                losses -= scores[ahead, whole[text.index("#") + 1]]
        torch.testing.assert_close(loss_of(ids, targets)[1], plain + 0.3 * losses / places)


def test_a_grown_model_says_the_same():
    model = tiny()
    larger = grown(model, 4)
    ids = torch.randint(TOKENIZER.vocab_size, (2, 20))
    assert len(larger.blocks) == 4 and larger.blocks[3].attention.window is None
    torch.testing.assert_close(larger(ids)[0], model(ids)[0], msg="are the new blocks' last matrices 0?")


def test_answers_are_learned_behind_the_question_and_behind_each_step():
    problem, end = ARITHMETIC.solve("3*9+6*8?"), TOKENIZER.end_of_text
    ids, targets = answer_row(problem, 2, TOKENIZER)
    assert TOKENIZER.decode(ids) == "3*9+6*8?3*9=7;7+6=3;4"
    learned = {at: target for at, target in enumerate(targets) if target != -100}
    answer = TOKENIZER.encode("4")[0]
    assert learned == {7: answer, 13: answer, 19: answer, 20: end}, "at the ? and each ;, and what ends the answer"
    ids, targets = answer_row(problem, 0, TOKENIZER)
    assert TOKENIZER.decode(ids) == "3*9+6*8?4" and [t for t in targets if t != -100] == [answer, end]
    long = ARITHMETIC.solve("1+1+1+1+1+1+1?")
    assert sum(target != -100 for target in answer_row(long, 6, TOKENIZER)[1]) == 7, "not where 5 steps are missing"
    random = np.random.default_rng(0)
    drawn = [context(8, random) for _ in range(2000)]
    assert set(drawn) == set(range(9)) and 0.5 < np.mean([count == 8 for count in drawn]) < 0.62


def test_batches_hang_on_seed_and_step_alone_and_are_of_alike_texts():
    rows = [chain_row(each.question, each.chain, TOKENIZER) for level in (1, 4, 8)
            for each in draw("arithmetic", "train", 40, 1, level)]
    batch = even_batches(rows, 512, 1)
    for step in range(20):
        ids, targets = batch(step)
        assert torch.equal(ids, even_batches(rows, 512, 1)(step)[0])
        lengths = (targets != -100).int().cumsum(1).argmax(1)
        assert ids.numel() <= 512 and lengths.max() - lengths.min() < 8
    assert not torch.equal(batch(0)[0], even_batches(rows, 512, 2)(0)[0])


# ---- distillation ----


def test_the_second_step_follows_the_teacher_on_what_the_student_wrote():
    teacher, student = tiny(3), tiny(4)
    problems = draw("arithmetic", "train", 20, 1, 2)
    ids, targets = own_writing(student, TOKENIZER, problems, 1, torch.float32, 48, Sampling(1.0))(0)
    assert (targets == -100).any() and ids.shape[1] <= 7 + max(len(each.chain) for each in problems) * 5 // 4
    counted = targets != -100
    inside = counted[:, :-1] & counted[:, 1:]
    assert torch.equal(ids[:, 1:][inside], targets[:, :-1][inside]), "its own tokens are its targets"
    with torch.no_grad():
        loss = Distilled(student, teacher, 1.0, beta=1.0)(ids, targets)[1]
        q, p = (model(ids)[0][counted] for model in (student, teacher))
        # KL(student || teacher), by torch
        wanted = F.kl_div(p.log_softmax(-1), q.log_softmax(-1), reduction="batchmean", log_target=True)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(loss, divergence(q, p, 1).mean())


def test_a_plan_names_its_pieces():
    """What a piece does not depend on does not make it another one."""
    assert Plan().path("base", 1) == Plan(routed=7, rank=4).path("base", 1)
    assert Plan().path("answers", 1) != Plan(rank=4).path("answers", 1) != Plan(rank=4).path("answers", 2)
    assert Plan().path("tiny", 1) != Plan(base_steps=7).path("tiny", 1)
    assert Plan().path("router", 1) != Plan(routed=7).path("router", 1) != Plan(routed=7).path("router", 1, ["more"])


def test_an_answer_that_never_ends_is_cut():
    base = Base(tiny(), TOKENIZER)
    (answer, tokens), = base.answers([Route("1+1?")], longest=5)
    assert tokens <= 5 and len(answer) <= 5
    (chain,), = think(base.model, TOKENIZER, ["1+1?"], max_new_tokens=5)
    assert math.isfinite(chain.log_probability)
