"""Chains, many at once: equal to one at a time, steered, searched, refined."""

import math

import pytest
import torch
from chains import CALCULATORS, Chain, Guide, beginning_of, calculator, mod_10_calculator, row_generators, think
from gpt import GPT, GPTConfig
from problem_batches import new_tokenizer
from reasoner import PARTS
from sampling import Sampling
from step_search import refine, step_beams
from tasks import draw

QUESTIONS = ["3*9+6*8?", "1+2?", "7-7*3+4*2-1?"]


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    parts = PARTS | {"key_value_head_count": 2, "window": 4, "window_layers": 1}
    return GPT(GPTConfig(tokenizer.vocab_size, 16, 96, 2, 2, **parts)).eval()


def test_all_at_once_is_one_at_a_time(model, tokenizer):
    """Samples, questions of different lengths, chains that end early: none changes another."""
    settings = Sampling(1.0)
    together = think(model, tokenizer, QUESTIONS, 4, settings, 40, row_generators(12, 1))
    for q, question in enumerate(QUESTIONS):
        for s in range(4):
            generator = row_generators(12, 1)[q * 4 + s]
            ((alone,),) = think(model, tokenizer, [question], 1, settings, 40, [generator])
            assert alone.text == together[q][s].text, "does a chain depend on what else is drawn?"
            assert alone.log_probability == pytest.approx(together[q][s].log_probability, abs=1e-3)


def test_greedy_chains_are_the_same_for_all_samples(model, tokenizer):
    (chains,) = think(model, tokenizer, QUESTIONS[:1], 3, max_new_tokens=20)
    assert len({chain.text for chain in chains}) == 1
    ids = tokenizer.encode(QUESTIONS[0])
    for token in chains[0].ids:
        with torch.no_grad():
            logits, _ = model(torch.tensor([ids]))
        assert logits[0, -1].argmax() == token
        ids.append(token)


def test_what_is_drawn_has_the_distribution_of_the_model(model, tokenizer):
    """Chi-square of the first character of 10,000 chains, drawn together, against the softmax."""
    question, count = "1+2?", 10_000
    (chains,) = think(model, tokenizer, [question], count, Sampling(1.0), 1, row_generators(count, 3))
    with torch.no_grad():
        logits, _ = model(torch.tensor([tokenizer.encode(question)]))
    wanted = logits[0, -1].softmax(-1).double() * count
    seen = torch.bincount(torch.tensor([chain.ids[0] for chain in chains]), minlength=len(wanted)).double()
    chi_square = ((seen - wanted) ** 2 / wanted).sum().item()
    freedom = len(wanted) - 1
    # Wilson and Hilferty's normal approximation; 4 deviations are one in 30,000
    deviations = ((chi_square / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    assert deviations < 4


def test_going_on_from_a_beginning(model, tokenizer):
    ((chain,),) = think(model, tokenizer, QUESTIONS[:1], max_new_tokens=12)
    ((again,),) = think(model, tokenizer, QUESTIONS[:1], max_new_tokens=7, begun=[beginning_of(chain, 5)])
    assert again.text == chain.text and again.log_probability == pytest.approx(chain.log_probability, abs=1e-4)


def test_a_question_that_is_too_long(model, tokenizer):
    with pytest.raises(ValueError, match="no room"):
        think(model, tokenizer, ["1+" * 50 + "1?"])


@pytest.mark.parametrize(("text", "said"), [
    ("3*4=", "12"), ("so <<12/4=", "3"), ("3*4", None), ("7/2=", None), ("1/0=", None), ("=", None), ("5-8=", "-3")])
def test_calculator(text, said):
    assert calculator(text) == said
    assert mod_10_calculator(text) == (said and str(int(said) % 10))


@pytest.mark.parametrize("data", CALCULATORS)
def test_a_calculator_writes_what_right_chains_have(data):
    for problem in draw(data, "test", 50, 1):
        for at in (i for i, letter in enumerate(problem.chain, 1) if letter == "="):
            said = CALCULATORS[data](problem.chain[:at])
            assert said is None or problem.chain.startswith(said, at), f"{problem.chain[:at]}{said}"


def test_the_calculator_fills_in(model, tokenizer):
    """Whatever the model thinks, "9*9=" is followed by 81 if a tool says so, and then by what the model likes."""
    script = {"": "9*9=", "9*9=81": ";"}
    guide = Guide(0.0, tokenizer=tokenizer, says=lambda text: script.get(text) or calculator(text))
    ((chain,),) = think(model, tokenizer, QUESTIONS[:1], settings=guide, max_new_tokens=12)
    assert chain.text.startswith("9*9=81;") and len(chain.ids) == 12
    with torch.no_grad():
        logits, _ = model(torch.tensor([tokenizer.encode(QUESTIONS[0] + chain.text)]))
    begin = len(QUESTIONS[0]) - 1
    own = logits[0, begin:-1].log_softmax(-1).gather(1, torch.tensor(chain.ids)[:, None])[:, 0]
    assert torch.allclose(own, torch.tensor(chain.log_probabilities), atol=1e-4), "not the model's own probabilities"


def test_budget_forcing(model, tokenizer):
    steps = {"": "1;", "1;": "#5"}
    guide = Guide(0.0, tokenizer=tokenizer, says=steps.get, most_steps=1)
    ((chain,),) = think(model, tokenizer, QUESTIONS[:1], settings=guide, max_new_tokens=6)
    assert chain.text.startswith("1;#"), "behind most_steps the answer is due"
    guide = Guide(0.0, tokenizer=tokenizer, least_steps=2)
    assert guide.next_word("1;", "#") == "wait;" and guide.next_word("1;2;", "#") is None
    assert guide.next_word("1;2", "#") is None and guide.next_word("1;", "2") is None


def test_step_log_probabilities(model, tokenizer):
    chain = Chain("1;22;#3", [0] * 8, [-1.0, -2, -4, -8, -16, -32, -64, -128])
    assert chain.step_log_probabilities() == [-3, -28, -224]
    assert chain.steps == ["1", "22"] and chain.answer == "3"
    assert Chain("1;", [0] * 2, [-1.0, -2]).step_log_probabilities() == [-3]


def test_step_beams_find_what_a_score_wants(model, tokenizer):
    """With a score for one kind of character, beams come to have more of it than chance; duplicates count once."""
    torch.manual_seed(0)
    beams = step_beams(model, tokenizer, QUESTIONS[0], beams=3, tries=8, most_steps=3,
                       score=lambda question, texts: [text.count("7") / (1 + len(text)) for text in texts])
    plain = think(model, tokenizer, QUESTIONS[:1], 24, Sampling(0.7), 40)[0]

    def sevens(chains):
        return sum(chain.text.count("7") for chain in chains) / sum(len(chain.text) + 1 for chain in chains)

    assert len({beam.text for beam in beams}) == len(beams) <= 3
    assert sevens(beams) > 2 * sevens(plain)


def test_refining_never_makes_a_chain_less_likely(model, tokenizer):
    torch.manual_seed(1)
    ((chain,),) = think(model, tokenizer, QUESTIONS[:1], settings=Sampling(1.0), max_new_tokens=30)
    better = refine(model, tokenizer, QUESTIONS[0], chain, rounds=3, tries=8)
    assert better.log_probability > chain.log_probability
    ids = torch.tensor([tokenizer.encode(QUESTIONS[0]) + better.ids])
    with torch.no_grad():
        logits, _ = model(ids[:, :-1])
    own = logits[0, len(QUESTIONS[0]) - 1 :].log_softmax(-1).gather(1, torch.tensor(better.ids)[:, None]).sum().item()
    assert better.log_probability == pytest.approx(own, abs=1e-3), "are the probabilities those of its own text?"
