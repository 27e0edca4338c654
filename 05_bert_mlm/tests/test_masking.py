"""What is hidden: as often and in the way that Hugging Face's collator does it, and never a special token."""

import numpy as np
import pytest
import torch
from bert_tokens import Marks, teach_to_mask
from for_tests import oracle
from masking import KINDS, mask_tokens
from tokenizer import BPETokenizer

V, TOKENS = 64, 300_000


@pytest.fixture(scope="module")
def marks():
    """Tokens 0 to 3 are special; those above 40 go on with the word before them."""
    special, opens, flat = np.zeros((3, V), dtype=bool)
    special[:4], opens[40:] = True, True
    return Marks(0, 1, 2, 3, special, opens, ~special, flat)


def text(random):
    rows = random.integers(4, V, size=(TOKENS // 100, 100))
    rows[:, 0], rows[:, -1], rows[::2, -9:] = 1, 2, 0
    return rows


def shares(ids, inputs, targets, allowed):
    """Of the tokens that may be hidden: chosen, and of these masked, random (as far as seen), kept."""
    chosen = targets != -100
    masked, kept = inputs[chosen] == 3, inputs[chosen] == ids[chosen]
    return [chosen.sum() / allowed.sum(), masked.mean(), (~masked & ~kept).mean(), kept.mean()]


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_statistics_are_those_of_hugging_faces_collator(marks, rate):
    collators = oracle("transformers.data.data_collator")
    random = np.random.default_rng(0)
    ids = text(random)
    allowed = ids > 3
    ours = [part.numpy() for part in mask_tokens(ids, marks, rate, random=random)]

    class Special:  # all that the collator asks of a tokenizer
        mask_token, mask_token_id, pad_token, pad_token_id = "[MASK]", 3, "[PAD]", 0

        def __len__(self):
            return V

        def get_special_tokens_mask(self, row, already_has_special_tokens):
            return [i < 4 for i in row]

        def convert_tokens_to_ids(self, token):
            return 3

    torch.manual_seed(0)
    collator = collators.DataCollatorForLanguageModeling(Special(), mlm_probability=rate)
    theirs = [part.numpy() for part in collator.torch_mask_tokens(torch.from_numpy(ids.copy()))]
    found, expected = shares(ids, *ours, allowed), shares(ids, *theirs, allowed)
    deviation = 4 * np.sqrt(2 * 0.25 / (rate * allowed.sum()))
    assert np.allclose(found, expected, atol=deviation), f"chosen, masked, random, kept: {found}, and theirs {expected}"
    assert abs(found[0] - rate) < deviation and abs(found[1] - 0.8) < deviation
    replaced = (ours[1] != -100) & (ours[0] != 3) & (ours[0] != ids)
    drawn = np.bincount(ours[0][replaced], minlength=V) / replaced.sum()
    assert drawn.max() < 2.5 / V and drawn[4:].min() > 0.3 / V, "a random token is any of the vocabulary's"


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_stay_and_the_rate_is_kept(marks, kind):
    ids = text(np.random.default_rng(1))
    inputs, targets = mask_tokens(ids, marks, 0.15, kind, np.random.default_rng(2))
    chosen = (targets != -100).numpy()
    assert not chosen[ids < 4].any() and (inputs.numpy()[ids < 4] == ids[ids < 4]).all()
    assert (targets.numpy()[chosen] == ids[chosen]).all() and (inputs.numpy()[~chosen] == ids[~chosen]).all()
    assert abs(chosen.sum() / (ids > 3).sum() - 0.15) < 0.004


def test_words_are_hidden_whole(marks):
    ids = text(np.random.default_rng(3))
    _, targets = mask_tokens(ids, marks, 0.15, "word", np.random.default_rng(4))
    chosen, words = (targets != -100).numpy(), marks.words(ids)
    same = (words[:, 1:] == words[:, :-1]) & (ids[:, 1:] > 3)
    assert same.mean() > 0.2 and (chosen[:, 1:] == chosen[:, :-1])[same].all()


def test_spans_are_as_long_as_in_the_paper(marks):
    """SpanBERT: geometric of 0.2, no more than 10 words; the mean is 3.8."""
    ids = np.full((400, 500), 5)  # each token is a word
    _, targets = mask_tokens(ids, marks, 0.02, "span", np.random.default_rng(5))
    edges = np.diff(np.pad((targets != -100).numpy().astype(int), ((0, 0), (1, 1))))
    lengths = (edges == -1).nonzero()[1] - (edges == 1).nonzero()[1]
    assert 3.2 < lengths.mean() < 4.2, f"{lengths.mean():.2f}: some are cut where the rate is reached, or meet"
    assert lengths.max() <= 20 and ((targets != -100).sum(1) == 10).all()


def test_dynamic_but_the_same_for_the_same_seed(marks):
    ids = text(np.random.default_rng(6))
    first, again, other = (mask_tokens(ids, marks, random=np.random.default_rng(seed))[0] for seed in (7, 7, 8))
    assert (first == again).all() and (first != other).any()


def test_words_of_our_own_tokenizer():
    tokenizer = BPETokenizer()
    tokenizer.train("the unbelievable hat's hats " * 9, 262)
    tokenizer = teach_to_mask(tokenizer)
    marks = Marks.of(tokenizer)
    ids = np.array([tokenizer.encode("the hats, the 12 hat")])
    words = marks.words(ids)[0]
    found = ["".join(tokenizer.decode([i]) for i, word in zip(ids[0], words) if word == number)
             for number in range(words.max() + 1)]
    assert found == ["the", " hats", ",", " ", "the", " ", "12", " hat"], "a word ends where no letter goes on"
    assert marks.special[[marks.pad, marks.cls, marks.sep, marks.mask]].all() and marks.special.sum() == 5
    assert teach_to_mask(tokenizer) is tokenizer
