"""Encoding: three ways of merging against each other, and OpenAI's vocabularies in our class against tiktoken."""

import random
import sysconfig
from pathlib import Path

import pytest
from bpe_encode import merge_by_rank, merge_in_bulk, merge_word
from token_array import SHIFT, TokenArray
from tokenizer import BPETokenizer


def trained(texts, vocab_size=400):
    tokenizer = BPETokenizer("none")
    tokenizer.train(texts, vocab_size)
    return tokenizer


def three_ways(tokenizer, data):
    ids = [tokenizer.byte_ids[byte] for byte in data]
    codes = {left << SHIFT | right: rank for (left, right), rank in tokenizer.ranks.items()}
    return (
        merge_word(list(ids), tokenizer.ranks, tokenizer.made),
        merge_by_rank(ids, tokenizer.merge_of),
        merge_in_bulk(data, tokenizer.byte_ids, codes, tokenizer.made),
    )


@pytest.mark.parametrize("seed", range(12))
def test_three_ways_of_merging_give_the_same_ids(seed):
    generator = random.Random(seed)
    letters = "abc"[: 1 + seed % 3]
    texts = ["".join(generator.choices(letters, k=generator.randint(0, 200))) for _ in range(60)]
    tokenizer = trained(texts[:30])
    for text in texts:
        first, second, third = three_ways(tokenizer, text.encode())
        assert first == second == third and tokenizer.decode(first) == text, text


def test_each_token_is_encoded_as_itself():
    """That is why a word that is a token needs no merging (`ignore_merges`)."""
    tokenizer = trained(["the cat sat on the mat; aaaaaaaa that that banana bandana " * 9], 340)
    for i, token in tokenizer.vocab.items():
        if i not in tokenizer.special_tokens.values():
            assert three_ways(tokenizer, token) == ([i], [i], [i])
    assert len(set(tokenizer.vocab.values())) == tokenizer.vocab_size, "two tokens with the same bytes"


def random_unicode(count, seed=5):
    """Strings of any characters, of those at which patterns cut, and of halves of characters."""
    generator = random.Random(seed)
    awkward = " \n\t\r'sSdlLveVE019.,!?aAé北ÄſİK🙂\u200d\u0301\u00a0\u3000\x85\x1c\x0b\x0c"
    for i in range(count):
        size = generator.randint(0, 60)
        if i % 3 == 0:
            yield "".join(map(chr, generator.choices(range(0x110000), k=size)))
        elif i % 3 == 1:
            yield "".join(generator.choices(awkward, k=size))
        else:
            yield "".join(map(chr, generator.choices(range(0xD780, 0xE080), k=size)))


def real_text(size):
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))
    text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in sources)
    return (text * (1 + size // len(text)))[:size]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "cl100k_base", "o200k_base"])
def test_no_id_differs_from_tiktokens(name, openai):
    ours, theirs = BPETokenizer.from_tiktoken(name), openai(name)
    assert ours.vocab_size == theirs.n_vocab and ours.end_of_text == theirs.eot_token
    for text in random_unicode(20_000):
        assert ours.encode(text) == theirs.encode(text), f"{name}: {text!r}"
    text = real_text(10_000_000)
    assert ours.encode(text, disallowed_special=()) == theirs.encode(text, disallowed_special=())
    special = list(theirs.special_tokens_set)
    text = "a".join(special) + special[0]
    assert ours.encode(text, allowed_special="all") == theirs.encode(text, allowed_special="all")


@pytest.mark.slow
def test_known_answers(openai):
    cl100k, o200k = BPETokenizer.from_tiktoken("cl100k_base"), BPETokenizer.from_tiktoken("o200k_base")
    assert cl100k.encode("hello world") == [15339, 1917]
    assert cl100k.encode("1234567") == [4513, 10961, 22]
    assert cl100k.encode("today\n \n") == [31213, 27907]
    assert o200k.encode("hello world") == [24912, 2375] and o200k.encode("👍") == [82514]


@pytest.mark.slow
@pytest.mark.parametrize("size", [150, 60_000, 100_000])
def test_long_words_equal_tiktokens(size, openai):
    """Words of all three ways; 100,000 letters are what made tiktoken take minutes once (its issue 195)."""
    ours, theirs = BPETokenizer.from_tiktoken("cl100k_base"), openai("cl100k_base")
    letters = "".join(random.Random(size).choices("etaoinshrdlu", k=size))
    for word in (letters, "a" * size, real_text(2 * size).replace(" ", "").replace("\n", "")[:size]):
        assert ours.encode_word(word.encode()) == theirs._encode_single_piece(word)


@pytest.mark.slow
def test_the_work_on_a_long_word_grows_with_its_length(monkeypatch):
    """Counted, not timed: the look-ups by rank, and the places that are touched in bulk."""
    tokenizer, looked_up, touched = trained([real_text(200_000)], 2000), [], []
    merge_of, grouped = tokenizer.merge_of, TokenArray.grouped
    monkeypatch.setattr(tokenizer, "merge_of", lambda pair: looked_up.append(1) or merge_of(pair))
    monkeypatch.setattr(TokenArray, "grouped", lambda *words: touched.append(len(words[1])) or grouped(*words))
    for size in (60_000, 600_000):
        looked_up.clear()
        touched.clear()
        three = real_text(size).encode()[:size]
        merge_by_rank([tokenizer.byte_ids[byte] for byte in three], tokenizer.merge_of)
        tokenizer.encode_word(three)
        assert len(looked_up) < 4 * size and sum(touched) < 4 * size, "is the merging quadratic?"
