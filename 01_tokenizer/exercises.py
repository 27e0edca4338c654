"""Check your answers to the exercises of README.md: functions in a file of your own.

    python 01_tokenizer/exercises.py my_answers.py
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


def check_update_counts(update_counts):
    for word in WORDS:
        ids, counts = list(word), dict(Counter(zip(word, word[1:])))
        pair = max(counts, key=lambda pair: (counts[pair], pair))
        update_counts(counts, ids, pair, 256)
        merged = bpe_plain.merge(ids, pair, 256)
        expected = Counter(zip(merged, merged[1:]))
        if (found := {pair: count for pair, count in counts.items() if count}) != expected:
            return f"after merging {pair} in {ids} the counts are {found}, not {dict(expected)}"


def check_encode_word(encode_word):
    tokenizer = trained()
    for word in WORDS:
        if (ids := encode_word(word, tokenizer.merges)) != tokenizer.encode_word(word):
            return f"{word} is {tokenizer.encode_word(word)}, not {ids}"


def check_longest_match(longest_match):
    tokens = {"un", "happ", "happi", "iness", "ness", *"unhapies"}
    for text, expected in {"unhappiness": ["un", "happi", "ness"], "": [], "unun": ["un", "un"]}.items():
        if (found := longest_match(text, tokens)) != expected:
            return f"{text!r} is {expected}, not {found}"


def check_cut_number(cut_number):
    for digits in ("", "1", "12", "123", "1234", "1234567", "123456789012"):
        expected = f"{int(digits):,}".split(",") if digits else []
        if (found := cut_number(digits)) != expected:
            return f"{digits!r} is {expected}, not {found}"


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}


if __name__ == "__main__":
    flags.run(lambda: grade("01_tokenizer", CHECKS))
