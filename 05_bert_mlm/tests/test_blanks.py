"""Filling in, scoring and comparing: against the definitions, and counting."""

import numpy as np
import pytest
import torch
from bert_model import BERT, BERTConfig
from bert_tokens import Marks, teach_to_mask
from blanks import embed, encode, fill, fill_all, pseudo_log_likelihood
from flags import UserError
from guessers import Guessers
from masking import mask_tokens
from tokenizer import BPETokenizer

TEXT = "the cat sat on the mat. the dog sat on the log. " * 6


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = BPETokenizer()
    tokenizer.train(TEXT, 275)
    return teach_to_mask(tokenizer)


@pytest.fixture(scope="module")
def marks(tokenizer):
    return Marks.of(tokenizer)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return BERT(BERTConfig(tokenizer.vocab_size, 32, 40, 4, 2)).eval()


def test_a_blank_swallows_the_space_before_it(tokenizer, marks):
    """A token begins with its space: " cat" is hidden, not "cat"."""
    ids, whole = (encode(text, tokenizer, marks, 40) for text in ("the [MASK] sat", "the cat sat"))
    assert ids == [marks.mask if tokenizer.decode([i]) == " cat" else i for i in whole] and marks.mask in ids


def test_what_looks_special_is_text(tokenizer, marks):
    ids = encode("[CLS] x <|endoftext|>", tokenizer, marks, 80)
    assert not marks.special[ids[1:-1]].any()


def test_blanks_are_guessed_at_once_and_then_one_by_one(model, tokenizer, marks):
    ids = encode("the [MASK] sat on the [MASK]", tokenizer, marks, 40)
    found = fill(model, ids, marks)
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0][0]
    logits[:, torch.from_numpy(marks.special)] = -torch.inf
    assert [place for place, _ in found] == [i for i, token in enumerate(ids) if token == marks.mask]
    for place, likely in found:
        assert torch.allclose(likely, logits[place].softmax(-1), atol=1e-6)
    surest, other = sorted(found, key=lambda one: -one[1].max())
    filled = fill_all(model, ids, marks)
    assert filled[surest[0]] == surest[1].argmax() and marks.mask not in filled
    ids[surest[0]] = int(surest[1].argmax())
    assert filled[other[0]] == fill(model, ids, marks)[0][1].argmax(), "the second blank must know the first"


def test_pseudo_log_likelihood_by_its_definition(model, tokenizer, marks):
    ids = encode("the dog sat on the log.", tokenizer, marks, 40)
    expected = []
    for at in range(1, len(ids) - 1):
        hidden = torch.tensor([[*ids[:at], marks.mask, *ids[at + 1 :]]])
        with torch.no_grad():
            expected.append(model(hidden)[0][0, at].log_softmax(-1)[ids[at]])
    assert torch.allclose(pseudo_log_likelihood(model, ids, marks), torch.stack(expected), atol=1e-5)


def test_a_sentence_has_one_direction_whatever_it_is_beside(model, tokenizer, marks):
    texts = ["the cat", "the dog sat on the log.", TEXT]
    together = embed(model, texts, tokenizer, marks)
    alone = torch.cat([embed(model, [text], tokenizer, marks) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5) and torch.allclose(together.norm(dim=-1), torch.ones(3))


def test_too_long_a_text(tokenizer, marks):
    with pytest.raises(UserError, match="the model takes 40: shorten it"):
        encode(TEXT, tokenizer, marks, 40)


def test_guessers_by_hand(tokenizer, marks):
    """In a b a b a c, what stands between two a's is b or c; after b comes a."""
    V = tokenizer.vocab_size
    a, b, c = (tokenizer.encode(letter)[0] for letter in "abc")
    guessers = Guessers([a, b, a, b, a, c] * 50, V, marks)
    inputs, targets = torch.tensor([[marks.cls, b, marks.mask, b, marks.sep], [marks.cls, a, marks.mask, a, marks.sep],
                                    [marks.cls, marks.mask, marks.mask, a, marks.sep]]), torch.full((3, 5), -100)
    targets[0, 2], targets[1, 2], targets[2, 2] = a, b, c
    found = guessers.log_probabilities(inputs, targets)
    assert found["unigram"].argmax(-1).tolist() == [a, a, a]
    assert found["bigram"][:2].argmax(-1).tolist() == [a, b] and torch.allclose(found["bigram"][2], found["unigram"][2])
    both = found["bigram, both sides"].exp()
    assert both[0].argmax() == a and both[0, a] > found["bigram"][0].exp()[a] * 0.99
    assert both[2, [b, c]].sum() > 0.9, "of a neighbour that is hidden nothing is known, of the other one all"
    assert torch.allclose(both.sum(-1), torch.ones(3), atol=1e-5)


def test_counting_scores_better_the_more_it_sees(tokenizer, marks):
    ids = np.array(tokenizer.encode(TEXT * 10))
    rows = ids[: len(ids) // 30 * 30].reshape(-1, 30)
    rows[:, 0], rows[:, -1] = marks.cls, marks.sep
    batch = mask_tokens(rows, marks, random=np.random.default_rng(0))
    scores = Guessers(ids, tokenizer.vocab_size, marks).scores([batch])
    losses = [scores[name][0] for name in ("unigram", "bigram", "bigram, both sides")]
    assert losses == sorted(losses, reverse=True) and scores["bigram, both sides"][1] > scores["unigram"][1]
