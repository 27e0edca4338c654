"""The second head: its loss, what it must not see, and drafts that change nothing."""

import multi_token
import pytest
import sampling
import torch
import torch.nn.functional as F
from gpt import GPT, GPTConfig

LLAMA = {"positions": "rotary", "norm": "rms_norm", "feed_forward": "swiglu", "bias": "none"}


def make(**parts):
    torch.manual_seed(0)
    return multi_token.MultiTokenPrediction(GPT(GPTConfig(30, 32, 64, 4, 2, **parts)))


@pytest.mark.parametrize("parts", [{}, LLAMA])
def test_loss_is_that_of_the_next_token_and_the_one_after(parts):
    predictor = make(**parts)
    text = torch.randint(30, (3, 13))
    ids, targets = text[:, :-1], text[:, 1:]
    hidden = predictor.model.hidden(ids)
    after = predictor.hidden_after(hidden[:, :-1], text[:, 1:-1])
    first = F.cross_entropy(predictor.model.head(hidden).transpose(1, 2), text[:, 1:])
    second = F.cross_entropy(predictor.model.head(after).transpose(1, 2), text[:, 2:])
    assert predictor(ids, targets)[1].item() == pytest.approx((first + 0.3 * second).item(), abs=1e-5)
    unknown = targets.clone()
    unknown[:, 4] = -100
    loss = predictor(ids, unknown)[1]
    assert loss.isfinite() and predictor(ids.clone(), unknown)[1] == loss


def test_no_prediction_sees_what_it_predicts():
    predictor = make().eval()
    text = torch.randint(30, (1, 12))
    after = predictor.hidden_after(predictor.model.hidden(text[:, :-2]), text[:, 1:-1])
    changed = text.clone()
    changed[0, 8:] = (text[0, 8:] + 1) % 30
    other = predictor.hidden_after(predictor.model.hidden(changed[:, :-2]), changed[:, 1:-1])
    same = (after - other).abs().amax(-1)[0] < 1e-6
    assert same.tolist() == [True] * 7 + [False] * 3, "at i it knows tokens up to i + 1, and predicts i + 2"


@pytest.mark.parametrize("parts", [{}, LLAMA])
def test_drafts_change_nothing_and_some_are_right(parts):
    predictor = make(**parts)
    text = torch.arange(6).repeat(40)[:161]
    optimizer = torch.optim.AdamW(predictor.parameters(), 3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        predictor(text[None, :40], text[None, 1:41])[1].backward()
        optimizer.step()
    for prompt in ([0, 1, 2], [17, 3], [5]):
        new, right, drafts = multi_token.write_with_drafts(predictor, prompt, 30)
        plain = sampling.generate(predictor.model, torch.tensor([prompt]), 30, temperature=0)[0, len(prompt):]
        assert new == plain.tolist()
    assert right > 0.8 * drafts > 8, "after 80 steps a text of six letters should be known by heart"


@pytest.mark.parametrize("parts", [{}, LLAMA, {"ngram_longest": 3, "ngram_rows": 99}])
def test_wrong_drafts_are_forgotten(parts):
    predictor = make(tied_head=False, **parts)
    with torch.no_grad():
        for w in predictor.parameters():
            w.normal_(std=0.3)
    made = kept = 0
    for prompt in torch.randint(30, (20, 5)):
        new, right, drafts = multi_token.write_with_drafts(predictor, prompt.tolist(), 6)
        assert new == sampling.generate(predictor.model, prompt[None], 6, temperature=0)[0, 5:].tolist()
        made, kept = made + drafts, kept + right
    assert kept < made / 2, "a test of wrong drafts needs some"


def test_the_model_alone_is_unchanged_and_the_rest_can_be_kept():
    predictor = make()
    names = predictor.beside()
    assert names and not any(name.startswith("model.") for name in names)
    other = make()
    with torch.no_grad():
        other.join.weight.zero_()
    missing, unexpected = other.load_state_dict(names, strict=False)
    assert torch.equal(other.join.weight, predictor.join.weight) and not unexpected
    assert all(name.startswith("model.") for name in missing)
