"""Byte-pair encoding: the two trainers against each other, against a recount, and against other people's."""

import random
from collections import Counter

import bpe_plain
import pytest
from bpe_fast import train_fast
from for_tests import ROOT, oracle, shared
from word_patterns import PATTERNS, cut


def word_counts(text, pattern="cl100k_base"):
    return {word.encode(): count for word, count in Counter(cut(pattern, text)).items()}


def real_text(size):
    return shared("tinyshakespeare/input.txt").read_text(encoding="utf-8")[:size]


def test_known_answer():
    for train in (bpe_plain.train_naive, bpe_plain.train_in_place, train_fast):
        merges = train({b"aaabdaaabac": 1}, 3)
        assert list(merges) == [(97, 97), (97, 98), (256, 257)], "aa, ab, aaab: at equal counts the smallest pair wins"


def test_repeats_are_merged_from_the_left_and_overlaps_counted():
    assert bpe_plain.merge([97] * 7, (97, 97), 256) == [256, 256, 256, 97]
    seen = []
    bpe_plain.train_in_place({b"a" * 7: 1}, 1, watch=lambda words, counts: seen.append(dict(counts)))
    assert +Counter(seen[0]) == {(256, 256): 2, (256, 97): 1}, "are the counts of an overlap taken out once too often?"


@pytest.mark.parametrize("seed", range(30))
def test_counts_in_place_equal_a_recount_after_every_merge(seed):
    generator = random.Random(seed)
    letters = b"abc"[: 1 + seed % 3]
    words = {bytes(generator.choices(letters, k=generator.randint(1, 12))): generator.randint(1, 9) for _ in range(60)}
    check_every_merge(words, 40)


def test_counts_in_place_equal_a_recount_on_real_text():
    check_every_merge(word_counts(real_text(20_000)), 100)


def check_every_merge(words, merge_count):
    occurrences = list(words.values())

    def watch(state, counts):
        recount = Counter()
        for index, ids in state.items():
            for pair in zip(ids, ids[1:]):
                recount[pair] += occurrences[index]
        assert +counts == recount, "a count was not taken down, or taken down twice"

    merges = list(bpe_plain.train_in_place(words, merge_count, watch).items())
    assert merges == list(bpe_plain.train_naive(words, merge_count).items())
    assert merges == list(train_fast(words, merge_count).items())


def test_training_ends_when_no_pair_is_left():
    for train in (bpe_plain.train_naive, bpe_plain.train_in_place, train_fast):
        assert train({}, 10) == train({b"a": 5}, 10) == {}
        assert train({b"ab": 3, b"c": 1}, 10) == {(97, 98): 256}


def test_one_long_word_ends_in_seconds():
    word = bytes(random.Random(0).choices(b"abcdefgh", k=100_000))
    merges = train_fast({word: 1}, 500)
    assert len(merges) == 500 and list(merges)[:40] == list(bpe_plain.train_in_place({word: 1}, 40))


def test_merges_equal_rustbpe():
    rustbpe = oracle("rustbpe")
    text = real_text(300_000)
    theirs = rustbpe.Tokenizer()
    theirs.train_from_iterator([text], 256 + 500, pattern=PATTERNS["cl100k_base"].replace(r"[\s]++$|", ""))
    ranks = {bytes(token): rank for token, rank in theirs.get_mergeable_ranks()}
    vocab = {i: bytes([i]) for i in range(256)}
    for (left, right), new_id in train_fast(word_counts(text), 500).items():
        vocab[new_id] = vocab[left] + vocab[right]
    assert {token: rank for rank, token in vocab.items()} == ranks


def test_the_plain_file_is_short():
    lines = (ROOT / "01_tokenizer/bpe_plain.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120, "the lesson must stay readable in one sitting"
