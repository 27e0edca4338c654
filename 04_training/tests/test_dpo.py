"""The losses of preferences: the papers' numbers, TRL's formulas, and what they do to a model."""

import math

import dpo
import pytest
import torch
import trainer
from gpt import FAMILIES, GPT, GPTConfig

ASKED = [1, 2]


def tiny(seed=0):
    torch.manual_seed(seed)
    return GPT(GPTConfig(40, 32, 32, 4, 2, **FAMILIES["llama"]))


def example(*answer):
    return [*ASKED, *answer], [False, False, *[True] * len(answer)]


PAIRS = [(example(5, 6, 7, 3), example(8, 9, 3)), (example(10, 3), example(11, 12, 13, 14, 3)),
         (example(15, 16, 3), example(17, 3))]


def batch_of(model, pairs=PAIRS):
    reference = dpo.reference_log_probabilities(model, pairs, 2, torch.float32)
    return dpo.pair_batches(pairs, reference, 3, seed=0)(0)


@pytest.mark.parametrize(("kind", "beta", "expected"), [
    ("dpo", 0.1, math.log(2)), ("ipo", 0.1, 25.0), ("simpo", 2.0, math.log(1 + math.exp(dpo.SIMPO_MARGIN)))])
def test_what_a_pair_costs_before_anything_is_learned(kind, beta, expected):
    assert dpo.preference_loss(kind, torch.zeros(1), beta).item() == pytest.approx(expected, rel=1e-6)
    if kind != "simpo":  # it has no reference
        _, loss = dpo.Preferences(tiny(), kind, beta)(*batch_of(tiny()))
        assert loss.item() == pytest.approx(expected, rel=1e-5), "is dropout on, or a token counted on one side only?"


def test_losses_are_those_of_trl():
    """DPOTrainer's "sigmoid" and "ipo", CPOTrainer's "simpo" (trl 1.16.0), from log-probabilities and lengths."""
    generator = torch.Generator().manual_seed(0)
    policy, reference = -20 * torch.rand(2, 6, 2, generator=generator)
    lengths = torch.randint(2, 9, (6, 2), generator=generator)
    chosen, rejected = (policy - reference).T
    sigmoid = torch.nn.functional.softplus(-0.3 * (chosen - rejected))
    ipo = (chosen / lengths[:, 0] - rejected / lengths[:, 1] - 1 / (2 * 0.3)) ** 2
    simpo_logits = (policy / lengths)[:, 0] - (policy / lengths)[:, 1] - dpo.SIMPO_MARGIN / 2.5
    simpo = -torch.log(torch.sigmoid(2.5 * simpo_logits))

    def ours(kind, beta, monkeypatch):
        monkeypatch.setattr(dpo, "answer_log_probabilities", lambda *_: (policy.flatten(), lengths.flatten()))
        trained = dpo.Preferences(tiny(), kind, beta)
        nothing = torch.zeros(6, 2, 1, dtype=torch.long)
        return trained(nothing, nothing, nothing, reference)[1]

    with pytest.MonkeyPatch.context() as patch:
        assert torch.allclose(ours("dpo", 0.3, patch), sigmoid.mean(), rtol=1e-5)
        assert torch.allclose(ours("ipo", 0.3, patch), ipo.mean(), rtol=1e-5), "IPO takes means over tokens"
        assert torch.allclose(ours("simpo", 2.5, patch), simpo.mean(), rtol=1e-5)


def test_log_probabilities_of_a_padded_pair_are_those_of_each_answer_alone():
    model = tiny().eval()
    ids, targets = dpo.padded(PAIRS)
    said, length = dpo.answer_log_probabilities(model, ids.flatten(0, 1), targets.flatten(0, 1))
    for i, (tokens, counted) in enumerate(each for pair in PAIRS for each in pair):
        logits, _ = model(torch.tensor([tokens[:-1]]))
        each = logits[0].log_softmax(-1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
        expected = each[torch.tensor(counted[1:])]
        assert length[i] == len(expected)
        assert torch.allclose(said[i], expected.sum(), atol=1e-5), "padding, or the question, was counted"


def test_no_dropout_of_any_kind_while_log_probabilities_are_compared():
    torch.manual_seed(0)
    model = GPT(GPTConfig(40, 32, 32, 4, 2, dropout=0.5, ngram_longest=3, ngram_rows=64, ngram_dropout=0.5))
    torch.nn.init.normal_(model.ngram_embedding.table.weight)
    trained = dpo.Preferences(model).train()
    assert trained(*batch_of(model))[1].item() == pytest.approx(math.log(2), rel=1e-5)


def test_a_batch_in_parts_has_the_gradient_of_the_whole():
    gradients = []
    for rows in (1, 3):
        model = tiny(seed=1)
        trained = dpo.Preferences(model)
        trainer.add_gradients(trained, batch_of(tiny()), rows, torch.float32)
        gradients.append(torch.cat([w.grad.flatten() for w in model.parameters()]))
    assert torch.allclose(*gradients, atol=1e-6), "a pair must count once, however many tokens it has"


@pytest.mark.parametrize(("kind", "beta"), dpo.BETAS.items())
def test_preferred_answers_become_likelier_than_the_others(kind, beta):
    model, reference = tiny(), tiny()
    batch, trained = batch_of(reference), dpo.Preferences(model, kind, beta)
    references = dpo.reference_log_probabilities(reference, PAIRS, 3, torch.float32)
    before = dpo.score_pairs(trained, PAIRS, references, 2, torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(30):
        trained(*batch)[1].backward()
        optimizer.step()
        optimizer.zero_grad()
    loss, accuracy, margin = dpo.score_pairs(trained, PAIRS, references, 2, torch.float32)
    assert loss < before[0] and accuracy == 1 and margin > before[2]
    if kind != "simpo":
        assert before[1:] == pytest.approx((0.5, 0.0), abs=1e-4), "before training every pair is a tie"
