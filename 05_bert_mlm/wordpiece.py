"""WordPiece, BERT's own tokenizer: the longest tokens that a word begins with, "##" before those within it.

    tokenizer = WordPieceTokenizer.load("bert-base-uncased/vocab.txt")
    tokenizer.encode("Unaffable?")  # the ids of "una", "##ffa", "##ble", "?"

It equals Hugging Face's, whose tables of formats, marks and punctuation are Unicode 8's, where Python's are newer:
some 500 characters of rare scripts (U+061D, U+0898 to U+089F, ...) that came later are seen as such only here.
"""

import json
import re
import string
import sys
import unicodedata
from functools import lru_cache
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "01_tokenizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import vocabularies
from flags import UserError, shown
from word_patterns import well_formed
from word_tokenizer import LARGEST_CACHE, PackedWords, WordTokenizer

UNKNOWN, WITHIN = "[UNK]", "##"
SPECIAL = "[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]"
LONGEST_WORD = 100  # characters; a longer one is unknown
STRETCH = 500_000
SPACES = "\t\n\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # others, such as \f, count as controls
# Chinese has no spaces: each character is a word. 2b920 is Hugging Face's; BERT's first code has 2b820.
CHINESE = ("\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f"
           "\U0002b920-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f")
NO_TEXT = {"Cc", "Cf", "Co", "Cs"}  # controls, invisible formats, private use, halves of characters


class WordPieceTokenizer(WordTokenizer):
    """Of the tokens in the order of their ids; `strip_accents` is as `lowercase` unless it says otherwise.

    Devlin et al. 2018, the published code, tokenization.py; the longest match first: Wu et al. 2016, "Google's Neural
    Machine Translation System", section 4.1.
    """

    kind = "wordpiece"

    def __init__(self, tokens, lowercase=True, strip_accents=None, chinese_characters=True, special_tokens=None):
        self.ids = {token: i for i, token in enumerate(tokens)}
        if special_tokens is None:
            special_tokens = {text: self.ids[text] for text in SPECIAL if text in self.ids}
        self.as_given = {"kind": self.kind, "tokens": list(tokens), "special_tokens": special_tokens,
                         "lowercase": lowercase, "strip_accents": strip_accents,
                         "chinese_characters": chinese_characters}
        if UNKNOWN not in self.ids:
            raise ValueError(f"no {UNKNOWN} among the tokens")
        self.special_tokens = special_tokens  # {text: id}
        self.vocab = {i: token.encode("utf-8") for i, token in enumerate(tokens)}
        self.vocab |= {i: text.encode("utf-8") for text, i in special_tokens.items()}
        self.vocab_size = max(self.vocab) + 1
        self.lowercase, self.strip_accents = lowercase, lowercase if strip_accents is None else strip_accents
        alone = re.escape(string.punctuation) + (CHINESE if chinese_characters else "")
        self.pattern = re.compile(f"[^{SPACES}{alone}]+|[{alone}]")
        self.packed, self.pieces = PackedWords(self), lru_cache(LARGEST_CACHE)(self.find_pieces)

    @property
    def end_of_text(self):
        """The id of [SEP], which stands behind each text. Raises UserError if the vocabulary has none."""
        if "[SEP]" not in self.special_tokens:
            raise UserError("this vocabulary has no [SEP]: it is no BERT's")
        return self.special_tokens["[SEP]"]

    def words(self, text):
        """Yield the words of a text in lists, one for each stretch of it."""
        text, done = well_formed(text), 0
        while done < len(text):
            end = text.find("\n", done + STRETCH)
            end = len(text) if end < 0 else end
            yield self.pattern.findall(text, done, end)
            done = end

    def encode_word(self, data):
        return [i for i, _, _ in self.pieces(data.decode("utf-8"))]

    def encode_with_offsets(self, text):
        """(ids, [(start, end)]): where in the text the characters of each token stand; all of it is ordinary text."""
        found = [(i, word.start() + start, word.start() + end)
                 for word in self.pattern.finditer(text) for i, start, end in self.pieces(word[0])]
        return [i for i, _, _ in found], [(start, end) for _, start, end in found]

    def find_pieces(self, word):
        """[(id, start, end)] of a word's tokens; it may still hold controls, accents, and punctuation beyond ASCII."""
        places = [at for at, c in enumerate(word) if unicodedata.category(c) not in NO_TEXT and c != "\ufffd"]
        text = "".join(word[at] for at in places)  # each character of it comes from its place
        if self.strip_accents and not word.isascii():  # accents come apart from their letters, and go
            places = [at for at in places for _ in unicodedata.normalize("NFD", word[at])]
            kept = [(at, c) for at, c in zip(places, unicodedata.normalize("NFD", text))
                    if unicodedata.category(c) != "Mn"]
            places, text = [at for at, _ in kept], "".join(c for _, c in kept)
        if self.lowercase:  # one by one: a sigma at a word's end is as any other
            places = [at for at, c in zip(places, text) for _ in c.lower()]
            text = "".join(c.lower() for c in text)
        found = []
        # each punctuation is a word of its own, and so is what stands between two
        for _, part in groupby(range(len(text)), lambda at: at + 1 if is_punctuation(text[at]) else 0):
            first, *others = part
            found += [(i, places[first + start], places[first + end - 1] + 1)
                      for i, start, end in self.longest_matches(text[first : first + 1 + len(others)])]
        return found

    def longest_matches(self, word):
        """[(id, start, end)]; a single unknown token if any part of the word has no match."""
        found, start = [], 0
        while start < len(word):
            end = len(word) if len(word) <= LONGEST_WORD else start
            while end > start and (WITHIN * (start > 0) + word[start:end]) not in self.ids:
                end -= 1
            if end == start:
                return [(self.ids[UNKNOWN], 0, len(word))]
            found.append((self.ids[WITHIN * (start > 0) + word[start:end]], start, end))
            start = end
        return found

    def stream(self, ids):
        """Yield the text of ids as they come: a space before each word, but not before . , ? and !"""
        for number, i in enumerate(ids):
            token = self.decode_bytes([i]).decode("utf-8")
            if number == 0 or token.startswith((".", ",", "?", "!")):
                yield token
            else:
                yield token.removeprefix(WITHIN) if token.startswith(WITHIN) else f" {token}"

    def decode(self, ids):
        """Readable text as Hugging Face's "cleanup" has it; capitals and spaces are lost."""
        return "".join(self.stream(ids))

    def offsets(self, ids):
        """For each id (start, end) of its characters in `decode(ids)`."""
        spans, end = [], 0
        for text in self.stream(ids):
            start, end = end, end + len(text)
            spans.append((start + (len(text) > 1 and text[0] == " "), end))
        return spans

    @classmethod
    def from_state(cls, state):
        """The tokenizer of a state. Raises ValueError, KeyError or the like where the state is none."""
        options = ("lowercase", "strip_accents", "chinese_characters", "special_tokens")
        tokenizer = cls(state["tokens"], **{name: state[name] for name in options})
        tokenizer.as_given = state
        return tokenizer

    @classmethod
    def load(cls, path):
        """Read a vocab.txt, a tokenizer.json, or a folder that has one. Raises UserError if the file is neither.

        What the tokenizer_config.json beside it says of capitals, accents and Chinese comes first.
        """
        path = Path(path)
        files = [path / "tokenizer.json", path / "vocab.txt"] if path.is_dir() else [path]
        file = next(filter(Path.is_file, files), None)
        if file is None:
            raise UserError(f"no vocabulary {shown(files[-1])}: give a vocab.txt, a tokenizer.json, or its folder")
        try:
            return cls.from_state(read(file))
        except vocabularies.DAMAGE as error:
            raise UserError(f"{shown(file)} is damaged or no vocabulary of WordPiece ({error!r}): take another"
                            " file") from error


def is_punctuation(character):
    return character in string.punctuation or unicodedata.category(character)[0] == "P"


def read(file):
    """The state in a vocab.txt, a tokenizer.json, or a file that `save` wrote."""
    text = file.read_text(encoding="utf-8-sig")
    if file.suffix != ".json":
        tokens = [line.rstrip() for line in text.removesuffix("\n").split("\n")]
        capitals = any(re.match(f"({WITHIN})?[A-Z]", token) for token in tokens)  # "[PAD]" begins with none
        state = WordPieceTokenizer(tokens, lowercase=not capitals).state()
    elif "model" not in (contents := json.loads(text)):
        return contents
    else:
        state = read_hugging_face(contents, file)
    config = file.parent / "tokenizer_config.json"
    said = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    names = {"do_lower_case": "lowercase", "strip_accents": "strip_accents",
             "tokenize_chinese_chars": "chinese_characters"}
    return state | {ours: said[theirs] for theirs, ours in names.items() if theirs in said}


def read_hugging_face(contents, file):
    model, normalizer, added = contents["model"], contents["normalizer"], contents["added_tokens"]
    for name, found, needed in (
        ("type", model.get("type"), "WordPiece"), ("unk_token", model["unk_token"], UNKNOWN),
        ("continuing_subword_prefix", model["continuing_subword_prefix"], WITHIN),
        ("max_input_chars_per_word", model["max_input_chars_per_word"], LONGEST_WORD),
        ("normalizer", normalizer["type"], "BertNormalizer"), ("clean_text", normalizer["clean_text"], True),
        ("pre_tokenizer", contents["pre_tokenizer"]["type"], "BertPreTokenizer"),
        *((name, token.get(name, False), False) for token in added for name in ("lstrip", "rstrip", "single_word")),
    ):
        if found != needed:
            raise UserError(f"{shown(file)} has the {name} {found!r}, which can't be read here: only {needed!r}")
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    if [model["vocab"][token] for token in tokens] != list(range(len(tokens))):
        raise ValueError("ids that are left out, or come twice")
    special = {token["content"]: token["id"] for token in added}
    return WordPieceTokenizer(tokens, normalizer["lowercase"], normalizer["strip_accents"],
                              normalizer["handle_chinese_chars"], special).state()
