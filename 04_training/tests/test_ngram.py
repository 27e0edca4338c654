"""Counting models against the formula, computed plainly, and on tiny Shakespeare."""

import re
from collections import Counter

import numpy as np
import pytest
from char_tokenizer import CharTokenizer
from for_tests import refuse, shared, succeed
from ngram import Ngram, text_bytes


def plain(train, order, vocab_size, kneser_ney=False):
    """(context, token) -> probability: the formula of Ney, Essen and Kneser, with a dictionary for each order."""
    counts = [Counter(tuple(train[i : i + n]) for i in range(len(train) - n + 1)) for n in range(1, order + 1)]
    if kneser_ney:
        counts = [*(Counter(gram[1:] for gram in longer) for longer in counts[1:]), counts[-1]]

    def probability(context, token):
        context = tuple(context)[max(0, len(context) - order + 1) :]
        lower = probability(context[1:], token) if context else 1 / vocab_size
        following = {gram[-1]: count for gram, count in counts[len(context)].items() if gram[:-1] == context}
        if not following:
            return lower
        kept = max(following.get(token, 0) - 0.85, 0)
        return (kept + 0.85 * len(following) * lower) / sum(following.values())

    return probability


def text(size, vocab_size, seed):
    """Random tokens of which small ones are frequent, with a repeated piece that makes long n-grams occur often."""
    generator = np.random.default_rng(seed)
    tokens = generator.geometric(0.3, size) % vocab_size
    tokens[size // 2 :][: size // 4] = tokens[: size // 4]
    return tokens


@pytest.mark.parametrize("kneser_ney", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_equals_the_formula(order, kneser_ney):
    train, other = text(600, 12, seed=1), text(80, 12, seed=2)
    train[train == 11], other[40] = 0, 11  # one that training never saw
    train[train == 10], train[0], other[41] = 0, 10, 10  # and one that nothing stands before
    ours = Ngram(train.astype(np.uint16), order, 12, kneser_ney=kneser_ney)
    expected = plain(train.tolist(), order, 12, kneser_ney)
    theirs = [expected(other[:i].tolist(), other[i]) for i in range(1, len(other))]
    found = ours.log_probabilities(other.astype(np.uint16))
    assert found.shape == (79,) and np.allclose(found, np.log(theirs), atol=1e-12), "is D given back for every kind?"
    for context in ([], [3], other[:3].tolist(), other[36:44].tolist(), train[-4:].tolist()):
        theirs = [expected(context, token) for token in range(12)]
        assert np.allclose(ours.next(context), theirs, atol=1e-12), f"after {context}"
        assert sum(theirs) == pytest.approx(1, abs=1e-12)


def test_the_largest_vocabulary_and_long_n_grams_do_not_overflow():
    generator = np.random.default_rng(0)
    alphabet = np.append(generator.integers(200_000, size=30), 200_018)
    train = alphabet[generator.integers(31, size=3000)]
    train[2000:2500] = train[:500]
    other = np.concatenate([train[100:160], alphabet[::-1]])
    ours, expected = Ngram(train.astype(np.uint32), 7, 200_019), plain(train.tolist(), 7, 200_019)
    theirs = [expected(other[:i].tolist(), other[i]) for i in range(1, len(other))]
    assert np.allclose(ours.log_probabilities(other), np.log(theirs), atol=1e-9)
    for context in (other[:6].tolist(), alphabet[:7].tolist(), [0, 200_018, 1]):
        assert ours.next(context).sum() == pytest.approx(1, abs=1e-9) and ours.next(context).min() > 0


@pytest.mark.parametrize("kneser_ney", [False, True])
def test_every_token_stays_possible(kneser_ney):
    """Also after texts that are shorter than the order, and after a token that stands at the beginning only."""
    for train in ([0, 1] * 20, [0] * 9, [0, 1, 2, 3], [2], [0, 1, 0]):
        ours = Ngram(np.array(train), 4, 5, kneser_ney=kneser_ney)
        assert np.isfinite(ours.log_probabilities(np.array([4, 0, 1, 4, 4, 3, 0]))).all(), train
        for context in ([], train, [4], [0, 1, 0, 1]):
            assert ours.next(context).sum() == pytest.approx(1) and ours.next(context).min() > 0


def test_five_characters_of_tiny_shakespeare():
    characters = shared("tinyshakespeare/input.txt").read_text(encoding="utf-8")
    tokenizer = CharTokenizer(characters)
    tokens = np.array(tokenizer.encode(characters))
    train, held_out = tokens[: -len(tokens) // 10], tokens[-len(tokens) // 10 :]
    losses = [-Ngram(train, order, tokenizer.vocab_size).log_probabilities(held_out).mean() for order in range(1, 6)]
    assert losses[4] == pytest.approx(1.690, abs=1e-3)
    assert losses == sorted(losses, reverse=True)
    model = Ngram(train, 5, tokenizer.vocab_size, kneser_ney=True)
    assert -model.log_probabilities(held_out).mean() == pytest.approx(1.564, abs=1e-3)


def test_the_ends_of_documents_are_no_text():
    tokenizer = CharTokenizer("aé北")
    assert text_bytes([0, 1, tokenizer.end_of_text, 2, 0], tokenizer) == 2 + 3 + 1, "the first token is not scored"


def test_the_script(tmp_path):
    characters = shared("tinyshakespeare/input.txt").read_text(encoding="utf-8")[:50_000]
    characters = characters.replace("e", "é")  # two bytes
    (tmp_path / "play.txt").write_text(characters, encoding="utf-8")
    out = succeed("04_training/ngram.py", "-d", tmp_path / "play.txt", "-t", "char", "--ngram", 3)
    assert "45,001 training and 5,000 validation tokens" in out
    found = re.findall(r"^\d-gram(?:, Kneser-Ney)? +(\S+) +(\S+) +(\S+) +\S+$", out, re.M)
    rows = [list(map(float, numbers)) for numbers in found]
    assert len(rows) == 4
    tokenizer = CharTokenizer(characters)
    tokens = np.array([*tokenizer.encode(characters), tokenizer.end_of_text])
    size = len(characters[45_002:].encode())
    for order, kneser_ney, (loss, perplexity, bits) in zip([1, 2, 3, 3], [False, False, False, True], rows):
        model = Ngram(tokens[:45_001], order, tokenizer.vocab_size, kneser_ney=kneser_ney)
        expected = -model.log_probabilities(tokens[45_001:])
        assert loss == pytest.approx(expected.mean(), abs=1e-4)
        assert perplexity == pytest.approx(np.exp(expected.mean()), abs=0.01)
        assert bits == pytest.approx(expected.sum() / np.log(2) / size, abs=1e-4), "bits per byte, not per character"


def test_mistakes_end_in_one_line(tmp_path):
    (tmp_path / "short.txt").write_text("abcabc", encoding="utf-8")
    assert "at least 1" in refuse("04_training/ngram.py", "-d", tmp_path / "short.txt", "-t", "char", "--ngram", 0)
    assert "longer text" in refuse("04_training/ngram.py", "-d", tmp_path / "short.txt", "-t", "char")
    assert "no corpus" in refuse("04_training/ngram.py", "-d", "nowhere", "-t", "char")
