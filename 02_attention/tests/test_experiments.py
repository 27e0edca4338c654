"""Induction, translation, context, scale: their data, their measures, and that the claims hold."""

import math
import random

import pytest
import torch
from attention_model import AttentionModel
from context import loss_by_position
from for_tests import refuse, succeed
from induction import VOCAB, head_scores, repeat_loss, repeated, share_right
from score_scale import spread, weights_of
from timed_training import train_for
from translation import MOST_WORDS, WORDS, Translator, random_numbers, source, spell, target, translation_loss


def take_steps(model, batch_loss, steps, learning_rate=3e-3):
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        batch_loss().backward()
        optimizer.step()


# induction


def test_segments_repeat_and_only_what_follows_a_known_token_is_asked():
    ids, known, periods = repeated(200, torch.Generator().manual_seed(0))
    assert ids.shape == (200, 65) and known.shape == (200, 64) and set(periods.flatten().tolist()) == set(range(8, 25))
    for row, asked, period in zip(ids, known, periods.flatten().tolist()):
        assert torch.equal(row[period:], row[:-period])
        assert torch.equal(asked.nonzero()[:, 0], torch.arange(period, 64))


@pytest.mark.slow
def test_two_layers_learn_what_one_cannot():
    right = {}
    for layer_count in (1, 2):
        torch.manual_seed(0)
        model, generator = AttentionModel(VOCAB, 64, 64, 4, layer_count, "grouped_query"), torch.Generator()
        generator.manual_seed(0)
        take_steps(model, lambda model=model, generator=generator: repeat_loss(model, 32, generator), 250)
        test, known, periods = repeated(100, torch.Generator().manual_seed(1), 64, 16, 16)
        right[layer_count] = share_right(model, test)[17:].mean()
    assert right[2] - right[1] > 0.3, "a head of the second layer should find what the first one wrote down"
    before, induction = head_scores(model, test, known, periods)
    assert before[0].max() > 0.5 and before[0].max() > before[1].max(), "the first layer looks one token back"
    assert induction[1].max() > 0.3 and induction[1].max() > induction[0].max()


def test_scores_of_heads_made_by_hand():
    ids, known, periods = repeated(4, torch.Generator().manual_seed(0), 20, 5, 5)
    previous, last_time = torch.zeros(20, 20), torch.zeros(20, 20)
    for t in range(20):
        previous[t, max(t - 1, 0)] = 1
        last_time[t, max(t - 4, 0)] = 1  # period 5: the same token stood at t - 5, what followed it at t - 4

    class Maps:
        def attention_maps(self, ids):
            return [torch.stack([previous, last_time]).expand(4, -1, -1, -1)]

    before, induction = head_scores(Maps(), ids, known, periods)
    assert torch.equal(before, torch.tensor([[1.0, 0.0]])) and torch.equal(induction, torch.tensor([[0.0, 1.0]]))


# translation


@pytest.mark.slow
def test_numbers_are_spelled_as_in_english():
    for number, words in {
        0: "zero", 13: "thirteen", 40: "forty", 99: "ninety nine", 100: "one hundred", 105: "one hundred and five",
        1000: "one thousand", 1001: "one thousand and one", 1100: "one thousand one hundred",
        40_105: "forty thousand one hundred and five", 207_015: "two hundred and seven thousand and fifteen",
        999_999: "nine hundred and ninety nine thousand nine hundred and ninety nine",
    }.items():
        assert " ".join(spell(number)) == words
    spelled = [tuple(spell(number)) for number in range(1_000_000)][::7]
    assert len(set(spelled)) == len(spelled) and max(map(len, spelled)) <= MOST_WORDS
    assert {word for words in spelled for word in words} == set(WORDS[1:])


def test_numbers_of_every_length_and_none_that_is_held_out():
    numbers = random_numbers(random.Random(0), 3000, held_out={5, 17})
    assert not {5, 17} & set(numbers) and {len(str(number)) for number in numbers} == {1, 2, 3, 4, 5, 6}


def test_a_short_sentence_is_translated_as_if_alone():
    torch.manual_seed(0)
    model = Translator()
    texts = [spell(5), spell(999_999)]
    both, mask = model.encode(source(texts))
    alone, _ = model.encode(source(texts[:1]))
    digits = target([5])[:, :-1]
    padded = model.decode(digits, both[:1], mask[:1])
    assert torch.allclose(padded, model.decode(digits, alone, None), atol=1e-6), "does padding count as a word?"
    maps = model.alignment(source(texts), target([5, 7])[:, :-1])
    assert (maps[0, :, :, 1:] == 0).all() and torch.allclose(maps.sum(-1), torch.ones(2, 4, 2))


def test_a_digit_does_not_see_those_after_it():
    torch.manual_seed(0)
    model = Translator()
    memory, mask = model.encode(source([spell(123_456)]))
    digits = target([123_456])[:, :-1]
    expected = model.decode(digits[:, :3], memory, mask)
    assert torch.allclose(model.decode(digits, memory, mask)[:, :3], expected, atol=1e-6)


def test_it_learns_to_translate():
    torch.manual_seed(0)
    model, generator = Translator(), random.Random(0)
    numbers = list(range(20, 40))
    take_steps(model, lambda: translation_loss(model, generator.sample(numbers, 10)), 150)
    assert model.translate([spell(number) for number in numbers]) == [str(number) for number in numbers]


# context


def test_the_loss_by_position_is_the_loss():
    torch.manual_seed(0)
    model, ids = AttentionModel(20, 16, 8, 2).eval(), torch.randint(20, (40, 9))
    losses = loss_by_position(model, ids)
    assert losses.shape == (8,)
    assert math.isclose(losses.mean().item(), model(ids[:, :-1], ids[:, 1:])[1].item(), rel_tol=1e-5)
    shorter = loss_by_position(model, ids[:, :4])
    assert torch.allclose(losses[:3], shorter, atol=1e-6)


def test_training_by_the_clock_ends_and_learns():
    weight = torch.nn.Parameter(torch.tensor(5.0))
    model = torch.nn.Module()
    model.weight = weight
    steps = train_for(model, lambda: weight.square(), seconds=0.3, learning_rate=0.1)
    assert steps > 10 and weight.abs() < 4
    assert train_for(model, lambda: weight.square(), steps=7) == 7


# scale


def test_the_scale_decides_how_many_keys_are_seen():
    assert math.isclose(spread(torch.full((3, 16), 1 / 16)), 16, rel_tol=1e-5)
    assert spread(torch.eye(4)) == 1
    none, head, embedding = (spread(weights_of(math.sqrt(size), 64, 256)) for size in (1, 64, 384))
    # of a Gaussian score of variance s the softmax looks at about n e^(-s/2) keys: Jensen, for s = 1 and 1/6
    assert none < 5 and abs(head - 256 * math.exp(-0.5)) < 5 and abs(embedding - 256 * math.exp(-1 / 12)) < 2


@pytest.mark.slow
def test_scripts(tmp_path):
    for name, budget, more in (("induction", "steps", ("--seeds", 0)), ("translation", "steps", ("forty-two",)),
                               ("context", "seconds", ())):
        out = succeed(f"02_attention/{name}.py", f"--{budget}", 1, *more, "-o", tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert {"induction": "are right", "translation": "forty two -> ", "context": "recurrent"}[name] in out
        cure = {"steps": "steps 0 must be", "seconds": "must be more than 0"}[budget]
        assert cure in refuse(f"02_attention/{name}.py", f"--{budget}", 0)
    assert "'eleventy' is no word" in refuse("02_attention/translation.py", "eleventy")
    out = succeed("02_attention/score_scale.py", "-o", tmp_path / "scale.png")
    assert "of deviation 8.00" in out and "of deviation 1.00" in out and "of deviation 0.41" in out
    assert "divisible" in refuse("02_attention/score_scale.py", 10, 8, 4)
