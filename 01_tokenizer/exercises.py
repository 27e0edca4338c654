"""The exercises of README.md: functions to write, and a check of each.

    python 01_tokenizer/exercises.py answers_01.py      # writes the file, to be filled; checks it once it is there
"""

import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import bpe_plain
import flags
from answers import grade
from tokenizer import BPETokenizer

generator = random.Random(0)
WORDS = [bytes(generator.choices(b"abc"[: 1 + i % 3], k=generator.randint(2, 20))) for i in range(300)]


def trained():
    tokenizer = BPETokenizer("none")
    tokenizer.train([word.decode() for word in WORDS], 300)
    return tokenizer


def from_the_left(word, merges):
    """What comes out if the first pair that can be merged always is."""
    ids = list(word)
    while (at := next((i for i, pair in enumerate(zip(ids, ids[1:])) if pair in merges), None)) is not None:
        ids[at : at + 2] = [merges[ids[at], ids[at + 1]]]
    return ids


def check_update_counts(update_counts):
    for word in WORDS:
        ids, counts = list(word), dict(Counter(zip(word, word[1:])))
        pair = max(counts, key=lambda pair: (counts[pair], pair))
        before = dict(counts)
        update_counts(counts, ids, pair, 256)
        merged = bpe_plain.merge(ids, pair, 256)
        expected = Counter(zip(merged, merged[1:]))
        if counts == before:
            return "counts is as it was: change the dict itself, what is returned is not looked at"
        found = {pair: count for pair, count in counts.items() if count}
        if pair in found and pair not in expected:
            return f"after merging {pair} in {ids} that pair is still counted"
        if not any(256 in each for each in found) and any(256 in each for each in expected):
            return f"after merging {pair} in {ids} no pair with the new token is counted"
        if found != expected:
            return f"after merging {pair} in {ids} the counts are {found}, not {dict(expected)}"


def check_encode_word(encode_word):
    tokenizer = trained()
    for word in WORDS:
        ids = encode_word(word, tokenizer.merges)
        if ids != tokenizer.encode_word(word) and ids == from_the_left(word, tokenizer.merges):
            return f"{word}: merge the pair that was learned first, wherever it stands, not the first from the left"
        if ids != tokenizer.encode_word(word):
            return f"{word} is {tokenizer.encode_word(word)}, not {ids}"


def check_longest_match(longest_match):
    tokens = {"un", "happ", "happi", "iness", "ness", *"unhapies"}
    for text, expected in {"unhappiness": ["un", "happi", "ness"], "": [], "unun": ["un", "un"]}.items():
        if (found := longest_match(text, tokens)) != expected:
            hint = ": take the longest token that fits, not the first" if len(found) > len(expected) else ""
            return f"{text!r} is {expected}, not {found}{hint}"


def check_cut_number(cut_number):
    for digits in ("", "1", "12", "123", "1234", "1234567", "123456789012"):
        expected = f"{int(digits):,}".split(",") if digits else []
        if (found := cut_number(digits)) != expected:
            hint = ": count from the right" if found and len(found[0]) == 3 and len(found) > 1 else ""
            return f"{digits!r} is {expected}, not {found}{hint}"


if __name__ == "__main__":
    flags.run(lambda: grade("01_tokenizer", globals()))
