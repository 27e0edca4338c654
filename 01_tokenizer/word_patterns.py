"""How a text is cut into words before any pair of bytes is merged; merges never cross a cut."""

import re

import regex

# The cuts of GPT-2, GPT-4 and GPT-4o (tiktoken 0.14, tiktoken_ext/openai_public.py). GPT-4o's words
# are capitals then small letters, either of which may be missing, then perhaps a contraction.
CAPITALS, SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|[\s]+(?![^\s])|[\s]+",
    "cl100k_base": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?[\p{L}]+|[\p{N}]{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|[\s]++$|[\s]*[\r\n]|[\s]+(?![^\s])|[\s]"
    ),
    "o200k_base": (
        rf"[^\r\n\p{{L}}\p{{N}}]?{CAPITALS}*{SMALL}+{CONTRACTION}"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{CAPITALS}+{SMALL}*{CONTRACTION}"
        r"|[\p{N}]{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|[\s]*[\r\n]+|[\s]+(?![^\s])|[\s]+"
    ),
}

# What the classes of letters, digits and spaces are within ASCII: the standard library's `re`, which
# does not know them, then cuts as `regex` does, in less than half the time.
WITHIN_ASCII = {
    r"\p{L}": "A-Za-z", r"\p{N}": "0-9", r"\s": r"\t-\r ", r"\p{Lu}": "A-Z", r"\p{Ll}": "a-z",
    r"\p{Lt}": "", r"\p{Lm}": "", r"\p{Lo}": "", r"\p{M}": "",
}


def within_ascii(pattern):
    for name, characters in WITHIN_ASCII.items():
        pattern = pattern.replace(name, characters)
    return re.compile(pattern)


CUT = {name: (within_ascii(pattern), regex.compile(pattern)) for name, pattern in PATTERNS.items()}
# Between a line that has no space at its end and one that begins with a letter every pattern cuts.
PARAGRAPHS = re.compile(r"(?<=\S\n)(?=[A-Za-z])")


def cut(name, text):
    """The words of a text by the pattern of that name; joined they are the text again."""
    ascii_words, all_words = CUT[name]
    if text.isascii():
        return ascii_words.findall(text)
    words = []
    for paragraph in PARAGRAPHS.split(text):
        words += (ascii_words if paragraph.isascii() else all_words).findall(paragraph)
    return words
