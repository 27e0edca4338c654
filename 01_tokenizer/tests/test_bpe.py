"""Byte-pair encoding: the three trainers against each other, against a recount, and against other people's."""

import json
import random
from collections import Counter

import bpe_fast
import bpe_plain
import pytest
import tokenizer_base
from bpe_fast import train_fast
from for_tests import ROOT, oracle, shared
from hugging_face import CHARACTER
from tokenizer import BPETokenizer, count_words
from word_patterns import PATTERNS

TRAINERS = [bpe_plain.train_naive, bpe_plain.train_in_place, train_fast]


def word_counts(text, pattern="cl100k_base"):
    return {word.encode(): count for word, count in count_words(pattern, [text]).items()}


def real_text(size):
    return shared("tinyshakespeare/input.txt").read_text(encoding="utf-8")[:size]


def test_known_answer():
    for train in TRAINERS:
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

    merges = list(bpe_plain.train_in_place(words, merge_count, watch=watch).items())
    assert merges == list(bpe_plain.train_naive(words, merge_count).items())
    assert merges == list(train_fast(words, merge_count).items())


def test_training_ends_when_no_pair_is_left():
    for train in TRAINERS:
        assert train({}, 10) == train({b"a": 5}, 10) == {}
        assert train({b"ab": 3, b"c": 1}, 10) == {(97, 98): 256}


def test_the_originals_mistakes_are_not_repeated():
    """Its counts in place gave (32, 256) here, and 0 for (256, 97) after the first merge of "aaaaaaa"."""
    for train in TRAINERS:
        first, second = train({b"haha haha haha haha": 1}, 2)
        assert (first, second) == ((104, 97), (256, 256)), "the counts of the pairs beside a merge are wrong"


@pytest.mark.parametrize("way", ["in the array", "as strings", "long words"])
@pytest.mark.parametrize("seed", range(8))
def test_each_way_of_holding_words_gives_the_same_merges(way, seed, monkeypatch):
    monkeypatch.setattr(bpe_fast, "MERGES_IN_ARRAY", {"in the array": 10**9, "as strings": 0, "long words": 5}[way])
    monkeypatch.setattr(bpe_fast, "LONG", 6 if way == "long words" else 1000)
    generator = random.Random(seed)
    letters = b"abcd"[: 1 + seed % 4]
    words = {bytes(generator.choices(letters, k=generator.randint(1, 30))): generator.randint(1, 9) for _ in range(60)}
    assert list(train_fast(words, 150).items()) == list(bpe_plain.train_naive(words, 150).items())


def test_a_single_word_is_merged_to_the_end():
    for word in (b"hello", b"aaaa", b"ab" * 700):
        assert list(train_fast({word: 1}, 50)) == list(bpe_plain.train_naive({word: 1}, 50)), word
    for count in (1, 2, 3):
        expected = list(bpe_plain.train_naive({b"abc": 2}, 9, min_count=count))
        assert list(train_fast({b"abc": 2}, 9, min_count=count)) == expected


def test_short_words_that_are_done_before_the_long_ones(monkeypatch):
    """What is left to hold as strings may be nothing at all."""
    monkeypatch.setattr(bpe_fast, "LONG", 40)
    monkeypatch.setattr(bpe_fast, "MERGES_IN_ARRAY", 6)
    long = bytes(random.Random(0).choices(b"abcd", k=60))
    for short in ({b"x": 1}, {b"xy": 9, b"y": 1}, {b"xyz": 90, b"xx": 80}):
        words = {**short, long: 1}
        assert list(train_fast(words, 40)) == list(bpe_plain.train_naive(words, 40))


def test_training_stops_where_the_original_did():
    words = {b"ab": 3, b"cd": 2, b"ef": 1}
    for train in TRAINERS:
        assert list(train(words, 10, min_count=2)) == [(97, 98), (99, 100)]
        assert list(train(words, 10)) == [(97, 98), (99, 100), (101, 102)]


@pytest.mark.slow
def test_one_long_word_ends_in_seconds():
    word = bytes(random.Random(0).choices(b"abcdefgh", k=100_000))
    merges = train_fast({word: 1}, 500)
    assert len(merges) == 500 and list(merges)[:40] == list(bpe_plain.train_in_place({word: 1}, 40))
    assert len(train_fast({b"a" * 100_000: 1}, 500)) == 21, "17 doublings of a, and what is left over"


@pytest.mark.slow
def test_ten_megabytes_without_a_space():
    text = "".join(random.Random(0).choices(["the", "cat", "sat", "mat", "é"], k=3_300_000))
    tokenizer = BPETokenizer("none")
    tokenizer.train(text, 300)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and len(ids) < len(text) / 3, "one merge at least for every word of three"


def test_merges_equal_rustbpe():
    rustbpe = oracle("rustbpe")
    text = real_text(300_000)
    theirs = rustbpe.Tokenizer()
    theirs.train_from_iterator([text], 256 + 500, pattern=PATTERNS["cl100k_base"].replace(r"[\s]++$|", ""))
    ranks = {bytes(token): rank for token, rank in theirs.get_mergeable_ranks()}
    ours = BPETokenizer(special_tokens=())
    ours.train(text, 256 + 500)
    assert {token: rank for rank, token in ours.vocab.items()} == ranks


def test_merges_equal_hugging_faces_with_bytes_in_its_order():
    """Its bytes are numbered in the order of GPT-2's printable characters, which decides between equal counts."""
    hugging_face = oracle("tokenizers")
    theirs = hugging_face.Tokenizer(hugging_face.models.BPE())
    theirs.pre_tokenizer = hugging_face.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = hugging_face.pre_tokenizers.ByteLevel.alphabet()
    trainer = hugging_face.trainers.BpeTrainer(vocab_size=256 + 700, initial_alphabet=alphabet, show_progress=False)
    text = real_text(300_000)
    theirs.train_from_iterator([text], trainer)

    byte_of = sorted(range(256), key=CHARACTER.get)  # the byte that has each of their first ids
    id_of = bytes(byte_of.index(byte) for byte in range(256))
    names = [CHARACTER[byte] for byte in byte_of]
    counts = {word.translate(id_of): count for word, count in word_counts(text, "gpt2").items()}
    ours = []
    for left, right in train_fast(counts, 700):
        ours.append([names[left], names[right]])
        names.append(names[left] + names[right])
    assert ours == [list(merge) for merge in json.loads(theirs.to_str())["model"]["merges"]]


def test_two_processes_learn_the_same(monkeypatch):
    monkeypatch.setattr(tokenizer_base, "BATCH", 1000)
    texts = [*real_text(20_000).split("\n\n"), "und so weiter " * 500, "", *"abc"]
    one, two = BPETokenizer(), BPETokenizer()
    one.train(iter(texts), 600)
    two.train(iter(texts), 600, processes=2)
    assert one.state() == two.state()


def test_the_plain_file_is_short():
    lines = (ROOT / "01_tokenizer/bpe_plain.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120, "the lesson must stay readable in one sitting"
