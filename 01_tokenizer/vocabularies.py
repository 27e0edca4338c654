"""Vocabularies in the formats of other people, read into a tokenizer's state and written from one.

    name.tiktoken     tiktoken's ranks                                          in and out
    tokenizer.json    Hugging Face: GPT-2, Llama 3, Qwen, SmolLM2 and the like  in and out
    name.gguf         llama.cpp                                                 in
    name.bin          llama2.c (tok512.bin)                                     in
    name.model        the report's original, "bpetokenizer v1"                  in
"""

import base64
import json
import struct
import sys
from pathlib import Path

import regex

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from atomic import replacing
from bpe_encode import merge_word
from flags import UserError
from hugging_face import read_chat_template, read_end_tokens, read_gguf, read_hugging_face, write_hugging_face
from reading import END_OF_TEXT
from tokenizer_state import bpe_state, ordinary_tokens, scores_state, trained_state
from word_patterns import PATTERNS

# ---- tiktoken: {bytes: rank}, where the rank is the id ----


def ranks_state(ranks, pattern, special_tokens):
    """Ranks come without merges: that of a token joins the two parts to which the merges before it bring it."""
    byte_ids = [ranks[bytes([byte])] for byte in range(256)]
    tokens = {chr(byte): i for byte, i in enumerate(byte_ids)}
    known, made = {}, []
    for token, i in sorted(ranks.items(), key=lambda entry: entry[1]):
        if len(token) > 1:
            parts = merge_word([byte_ids[byte] for byte in token], known, made)
            if len(parts) == 2:
                known[tuple(parts)] = len(made)
                made.append(i)
            else:  # only a word that is this token as a whole becomes it
                tokens[token.decode("latin-1")] = i
    return bpe_state(pattern, tokens, [[*pair, i] for pair, i in zip(known, made)], special_tokens)


def tiktoken_state(encoding):
    patterns = {"r50k_base": "gpt2", "p50k_base": "gpt2", "p50k_edit": "gpt2", "o200k_harmony": "o200k_base"}
    pattern = patterns.get(encoding.name, encoding.name)
    return ranks_state(encoding._mergeable_ranks, pattern, encoding._special_tokens)


def read_ranks(path):
    """A .tiktoken file holds lines of a token in base 64 and its rank, no pattern and no special tokens."""
    lines = [line.split() for line in path.read_bytes().splitlines() if line]
    ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    if len(set(ranks.values())) < len(lines):
        raise ValueError("a rank or a token comes twice")
    highest = max(ranks.values())
    return ranks_state(ranks, pattern_of_name(path), dict(OPENAI.get(highest, {END_OF_TEXT: highest + 1})))


# the special tokens of OpenAI's own files, by the highest rank in them (tiktoken_ext/openai_public.py)
OPENAI = {
    100_255: {END_OF_TEXT: 100_257, "<|fim_prefix|>": 100_258, "<|fim_middle|>": 100_259, "<|fim_suffix|>": 100_260,
              "<|endofprompt|>": 100_276},
    199_997: {END_OF_TEXT: 199_999, "<|endofprompt|>": 200_018},
}


def pattern_of_name(path):
    """What the file itself can't say: mine.gpt2.tiktoken cuts as GPT-2, mine.tiktoken as GPT-4."""
    return next((name for name in PATTERNS if path.stem.endswith(name)), "cl100k_base")


def write_ranks(state, path):
    tokens = sorted(ordinary_tokens(state).items())
    if not {bytes([byte]) for byte in range(256)} <= {token for _, token in tokens}:
        raise UserError("a .tiktoken file must have all 256 bytes, and this vocabulary lacks some: save it as .json")
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % i for i, token in tokens))


# ---- llama2.c and the report's original ----


def read_llama2c(path):
    """int32 length of the longest token, then for each a float32 score, an int32 length and its bytes."""
    data, at, tokens, scores = path.read_bytes(), 4, [], []
    longest = struct.unpack_from("<i", data)[0]
    while at < len(data):
        score, size = struct.unpack_from("<fi", data, at)
        if not 0 < size <= longest or at + 8 + size > len(data):
            raise ValueError(f"a token of {size} bytes")
        tokens.append(data[at + 8 : at + 8 + size].decode("utf-8"))
        scores.append(score)
        at += 8 + size
    # llama2.c trains on texts that begin with <s> and ends one where the next begins (run.c); Llama 2 itself says </s>
    return scores_state(tokens, scores, {"<unk>": 0, "<s>": 1, "</s>": 2}, 1) | {"end_tokens": [1, 2]}


def read_original(path):
    """Lines: the version, the pattern, how many special tokens, each of them and its id, then pairs of ids."""
    version, pattern, count, *lines = path.read_text(encoding="utf-8").splitlines()
    if version != "bpetokenizer v1":
        raise UserError(f"{path} is no tokenizer of the report's original, which begins with 'bpetokenizer v1'")
    special_tokens = {text: int(i) for text, _, i in (line.rpartition(" ") for line in lines[: int(count)])}
    pairs = [[int(left), int(right)] for left, right in (line.split() for line in lines[int(count) :])]
    return trained_state(pattern, pairs, ()) | {"special_tokens": special_tokens, "ignore_merges": False}


# ---- by the name of the file ----

DAMAGE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError,
          struct.error, regex.error)
READERS = {".tiktoken": read_ranks, ".gguf": read_gguf, ".bin": read_llama2c, ".model": read_original}


def read(path):
    """The state in a file of any of these formats, or in a model's folder: its tokenizer.json, and what ends a text.

    Raises UserError for what can't be read here, and `DAMAGE` at a file that is none of them.
    """
    path = Path(path)
    if path.is_dir():
        beside = {"end_tokens": read_end_tokens(path), "chat_template": read_chat_template(path)}
        return read(path / "tokenizer.json") | {name: value for name, value in beside.items() if value is not None}
    if not path.is_file():
        cure = "train one with 01_tokenizer/train.py, leave out -m, or add -t tiktoken for one of its encodings"
        raise UserError(f"no tokenizer {path}: {cure}")
    if path.suffix in READERS:
        return READERS[path.suffix](path)
    contents = json.loads(path.read_text(encoding="utf-8-sig"))
    return read_hugging_face(contents) if "model" in contents else contents


def write(state, path):
    """Write a state as the name says: name.tiktoken, tokenizer.json, or else as it is, in JSON. Raises UserError."""
    path = Path(path)
    check_name(state, path)
    with replacing(path) as beside:
        if path.suffix == ".tiktoken":
            write_ranks(state, beside)
        elif path.name == "tokenizer.json" and state["kind"] == "tokenizer":
            write_hugging_face(state, beside)
        else:
            beside.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")


def check_name(state, path):
    """Refuse a name under which the state would not be read back as it is."""
    if path.suffix == ".tiktoken" and state["kind"] == "tokenizer":
        if pattern_of_name(path) != state["pattern"]:
            better = path.with_name(f"{path.stem}.{state['pattern']}.tiktoken")
            raise UserError(f"a .tiktoken file tells its pattern only by its name: call it {better}")
    elif path.suffix in READERS or path.is_dir() or not path.name:
        raise UserError(f"can't write this tokenizer to '{path}': give a name that ends in .json")
