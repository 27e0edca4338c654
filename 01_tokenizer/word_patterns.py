"""How a text is cut into words before any pair of bytes is merged; merges never cross a cut."""

import re
from functools import cache

import regex

# The cuts of GPT-2, GPT-4 and GPT-4o (tiktoken 0.14, tiktoken_ext/openai_public.py). GPT-4o's words
# are capitals then small letters, either of which may be missing, then perhaps a contraction.
CAPITALS, SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?[\p{L}]++| ?[\p{N}]++| ?[^\s\p{L}\p{N}]++|[\s]+(?![^\s])|[\s]+"
# Llama 3 and Qwen differ from GPT-4 in the spaces before a line's end, and Qwen in single digits.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}]+|[\p{N}]{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|[\s]*[\r\n]+|[\s]+(?![^\s])|[\s]+"
)
PATTERNS = {
    "gpt2": GPT2,
    "cl100k_base": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+[\p{L}]++|[\p{N}]{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|[\s]++$|[\s]*[\r\n]|[\s]+(?![^\s])|[\s]"
    ),
    "o200k_base": (
        rf"[^\r\n\p{{L}}\p{{N}}]?{CAPITALS}*{SMALL}+{CONTRACTION}"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{CAPITALS}+{SMALL}*{CONTRACTION}"
        r"|[\p{N}]{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|[\s]*[\r\n]+|[\s]+(?![^\s])|[\s]+"
    ),
    "llama3": LLAMA3,
    "qwen2": LLAMA3.replace("{1,3}", ""),
    "smollm": r"[\p{N}]|[\s]+(?=[\p{N}])|" + GPT2,  # each digit alone, then as GPT-2
    "none": r"(?s:.+)",  # the whole text is one word: merges go across spaces too
}

# What the classes of letters, digits and spaces are within ASCII: the standard library's `re`, which
# does not know them, then cuts as `regex` does, in less than half the time.
WITHIN_ASCII = {
    r"\p{L}": "A-Za-z", r"\p{N}": "0-9", r"\s": r"\t-\r ", r"\p{Lu}": "A-Z", r"\p{Ll}": "a-z",
    r"\p{Lt}": "", r"\p{Lm}": "", r"\p{Lo}": "", r"\p{M}": "",
}
# No ASCII letter is both capital and small, so that GPT-4o's first two cuts become one there.
O200K_WITHIN_ASCII = (
    r"[^\r\n\p{L}\p{N}]?(?:[\p{Ll}]++|[\p{Lu}]++[\p{Ll}]*+)(?:(?!')|'(?i:[sdmt]|ll|ve|re)|)"
    r"|[\p{N}]{1,3}| ?[^\s\p{L}\p{N}]++[\r\n/]*+|[\s]*[\r\n]+|[\s]+(?![^\s])|[\s]+"
)
NOT_ASCII = re.compile(r"[^\x00-\x7f]")
# Between a line that has no space at its end and one that begins with a letter all of them but "none" cut.
PARAGRAPH = re.compile(r"(?<=\S\n)(?=[A-Za-z])")
STRETCH = 500_000  # characters


@cache
def compiled(name):
    """The pattern for ASCII text, by `re`, and for all text, by `regex`."""
    within_ascii = O200K_WITHIN_ASCII if name == "o200k_base" else PATTERNS[name]
    for character_class, characters in WITHIN_ASCII.items():
        within_ascii = within_ascii.replace(character_class, characters)
    return re.compile(within_ascii), regex.compile(PATTERNS[name])


def as_usually_written(pattern):
    """The pattern without the brackets around single classes, which are here for `WITHIN_ASCII`."""
    return re.sub(r"\[(\\p\{\w+\}|\\s)\]", r"\1", pattern.replace(r"[^\s]", r"\S"))


def well_formed(text):
    """The text with each lone surrogate, half of a character, replaced by U+FFFD, as tiktoken does."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def words(pattern, text):
    """Yield the words of a text in lists, one for each stretch of it, as many words at once need much memory.

    `pattern` is one of PATTERNS, or a regular expression of your own; what it does not match are words too.
    """
    text = text if text.isascii() else well_formed(text)
    if pattern not in PATTERNS:
        ends = [end for found in regex.finditer(pattern, text) for end in found.span()]
        yield [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)]) if start < end]
    elif pattern == "none":
        yield [text] if text else []
    else:
        done = 0
        while done < len(text):
            found = PARAGRAPH.search(text, done + STRETCH)
            end = found.start() if found else len(text)
            yield words_of_stretch(*compiled(pattern), text[done:end])
            done = end


def words_of_stretch(ascii_words, all_words, text):
    found, done = [], 0
    while other := NOT_ASCII.search(text, done):  # the paragraphs around it are left to `regex`
        start = other.start()
        while start > done and not PARAGRAPH.match(text, start):
            start = max(text.rfind("\n", done, start - 1) + 1, done)
        end = PARAGRAPH.search(text, other.start())
        end = end.start() if end else len(text)
        found += ascii_words.findall(text[done:start]) + all_words.findall(text[start:end])
        done = end
    return found + ascii_words.findall(text[done:])
