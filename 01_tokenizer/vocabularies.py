"""Vocabularies in the formats of other people, read into a tokenizer's state and written from one.

    name.tiktoken     tiktoken's ranks                                          in and out
    tokenizer.json    Hugging Face: GPT-2, Llama 3, Qwen, SmolLM2 and the like  in and out
    name.gguf         llama.cpp                                                 in
    name.bin          llama2.c (tok512.bin)                                     in
    name.model        the report's original, "bpetokenizer v1"                  in

A state is what JSON can hold. That of a byte-pair encoding has `tokens`, {bytes as latin-1: id}, at least
of those that no merge makes, `merges`, [[left id, right id, id]] in the order of learning, and `special_tokens`.
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
from gguf_file import read_metadata
from reading import END_OF_TEXT
from word_patterns import PATTERNS, as_usually_written


def bpe_state(pattern, tokens, merges, special_tokens, ignore_merges=True, normalization=None):
    return {
        "kind": "tokenizer",
        "pattern": pattern,
        "normalization": normalization,
        "ignore_merges": ignore_merges,
        "special_tokens": special_tokens,
        "tokens": tokens,
        "merges": merges,
    }


def trained_state(pattern, pairs, special_tokens):
    """Ids 0 to 255 are the bytes, then come the merges of the pairs in order, then the special tokens."""
    merges = [[*pair, 256 + i] for i, pair in enumerate(pairs)]
    special_tokens = {text: 256 + len(merges) + i for i, text in enumerate(special_tokens)}
    return bpe_state(pattern, {chr(byte): byte for byte in range(256)}, merges, special_tokens)


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
    return ranks_state(ranks, pattern_of_name(path), {END_OF_TEXT: max(ranks.values()) + 1})


def pattern_of_name(path):
    """What the file itself can't say: mine.gpt2.tiktoken cuts as GPT-2, mine.tiktoken as GPT-4."""
    return next((name for name in PATTERNS if path.stem.endswith(name)), "cl100k_base")


def write_ranks(state, path):
    tokens = sorted(ordinary_tokens(state).items())
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % i for i, token in tokens))


def ordinary_tokens(state):
    """{id: bytes} of all tokens but the special ones."""
    tokens = {i: token.encode("latin-1") for token, i in state["tokens"].items()}
    for left, right, i in state["merges"]:
        if left in tokens and right in tokens:  # Llama 3 also lists merges of parts that only come later
            tokens[i] = tokens[left] + tokens[right]
    return tokens


# ---- Hugging Face's tokenizer.json and llama.cpp's GGUF: bytes as printable characters ----

# GPT-2's table: a byte that can be printed is itself, the others are the characters from 256 on.
PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
CHARACTER = {byte: chr(byte) for byte in PRINTABLE} | {byte: chr(256 + i) for i, byte in enumerate(OTHERS)}
BYTE = {character: byte for byte, character in CHARACTER.items()}


def printable(token):
    return "".join(CHARACTER[byte] for byte in token)


def printable_state(pattern, vocab, merges, special_tokens, ignore_merges, normalization):
    """The state of {printable token: id} and [left token, right token] in the order of learning."""
    merges = [[vocab[left], vocab[right], vocab[left + right]] for left, right in merges]
    special_ids = set(special_tokens.values())
    tokens = {bytes(BYTE[c] for c in token).decode("latin-1"): i for token, i in vocab.items() if i not in special_ids}
    return bpe_state(pattern, tokens, merges, special_tokens, ignore_merges, normalization)


def read_hugging_face(contents):
    model, normalizer = contents["model"], contents.get("normalizer")
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise UserError(f"a tokenizer.json of type {model.get('type')} that is no byte-level BPE can't be read here")
    if normalizer and normalizer["type"] != "NFC":
        raise UserError(f"a tokenizer.json with the normalizer {normalizer['type']} can't be read here")
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    special_tokens = {token["content"]: token["id"] for token in contents.get("added_tokens", [])}
    pattern = pattern_of(contents["pre_tokenizer"])
    normalization = normalizer and normalizer["type"]
    ignore_merges = bool(model.get("ignore_merges"))
    return printable_state(pattern, model["vocab"], merges, special_tokens, ignore_merges, normalization)


def pattern_of(pre_tokenizer):
    """The pattern that does what a chain of Hugging Face's pre-tokenizers does."""
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    *cuts, last = steps
    if last["type"] == "ByteLevel" and not last.get("add_prefix_space"):
        uses_gpt2 = last.get("use_regex", True)
        if not cuts:
            return "gpt2" if uses_gpt2 else "none"
        if [cut["type"] for cut in cuts] == ["Digits"] and cuts[0]["individual_digits"] and uses_gpt2:
            return "smollm"
        if [cut["type"] for cut in cuts] == ["Split"] and "Regex" in cuts[0]["pattern"] and not uses_gpt2:
            written = cuts[0]["pattern"]["Regex"].replace(r"\z", "$")
            return {as_usually_written(PATTERNS[name]): name for name in PATTERNS}.get(written, written)
    raise UserError(f"a tokenizer.json with the pre-tokenizers {[step['type'] for step in steps]} can't be read here")


def write_hugging_face(state, path):
    special = {i: text for text, i in state["special_tokens"].items()}
    names = {i: printable(token) for i, token in ordinary_tokens(state).items()}
    pattern = as_usually_written(PATTERNS.get(state["pattern"], state["pattern"]))
    pattern = {"Regex": pattern.replace("$", r"\z")}  # where `$` is the end of any line
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    cuts = [] if state["pattern"] == "none" else [split]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    contents = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": text, **flags} for i, text in sorted(special.items())],
        "normalizer": state["normalization"] and {"type": state["normalization"]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cuts, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "ignore_merges": state["ignore_merges"],
            "vocab": {name: i for i, name in names.items()},
            "merges": [[names[left], names[right]] for left, right, _ in state["merges"]],
        },
    }
    path.write_text(json.dumps(contents, ensure_ascii=False), encoding="utf-8")


def read_gguf(path):
    pairs = {key.removeprefix("tokenizer.ggml."): value for key, value in read_metadata(path).items()}
    control, user_defined = 3, 4
    special = {text: i for i, text in enumerate(pairs["tokens"]) if pairs["token_type"][i] in (control, user_defined)}
    if pairs["model"] == "llama":
        tokens = [text.replace("▁", " ") for text in pairs["tokens"]]
        return {"kind": "scores", "tokens": tokens, "scores": pairs["scores"], "special_tokens": special}
    patterns = {"gpt-2": "gpt2", "llama-bpe": "llama3", "qwen2": "qwen2", "smollm": "smollm", "gpt-4o": "o200k_base"}
    if pairs["model"] != "gpt2" or pairs["pre"] not in patterns:
        raise UserError(f"{path} has a tokenizer '{pairs['model']}', '{pairs.get('pre')}' that can't be read here")
    vocab = {text: i for i, text in enumerate(pairs["tokens"])}
    merges = [merge.split(" ") for merge in pairs["merges"]]
    normalization = "NFC" if pairs["pre"] == "qwen2" else None
    ignore_merges = pairs["pre"] == "llama-bpe"
    return printable_state(patterns[pairs["pre"]], vocab, merges, special, ignore_merges, normalization)


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
    special_tokens = {"<unk>": 0, "<s>": 1, "</s>": 2}
    return {"kind": "scores", "tokens": tokens, "scores": scores, "special_tokens": special_tokens}


def read_original(path):
    """Lines: the version, the pattern, how many special tokens, each of them and its id, then pairs of ids."""
    version, pattern, count, *lines = path.read_text(encoding="utf-8").splitlines()
    if version != "bpetokenizer v1":
        raise UserError(f"{path} is no tokenizer of the report's original, which begins with 'bpetokenizer v1'")
    special_tokens = {text: int(i) for text, _, i in (line.rpartition(" ") for line in lines[: int(count)])}
    pairs = [tuple(map(int, line.split())) for line in lines[int(count) :]]
    regex.compile(pattern)
    return trained_state(pattern, pairs, ()) | {"special_tokens": special_tokens, "ignore_merges": False}


# ---- by the name of the file ----

READERS = {".tiktoken": read_ranks, ".gguf": read_gguf, ".bin": read_llama2c, ".model": read_original}


def read(path):
    """The state in a file of any of these formats, or in a folder with a tokenizer.json. Raises UserError."""
    path = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    if not path.is_file():
        cure = "train one with 01_tokenizer/train.py, leave out -m, or add -t tiktoken for one of its encodings"
        raise UserError(f"no tokenizer {path}: {cure}")
    try:
        if path.suffix in READERS:
            return READERS[path.suffix](path)
        contents = json.loads(path.read_text(encoding="utf-8"))
        return read_hugging_face(contents) if "model" in contents else {"kind": contents["kind"], **contents}
    except (ValueError, KeyError, TypeError, struct.error, regex.error) as error:
        raise UserError(f"{path} is damaged or no tokenizer: train one with 01_tokenizer/train.py") from error


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
        raise UserError(f"can't write a tokenizer to '{path}': give a name that ends in .json")
