"""Vocabularies as Hugging Face and llama.cpp have them, with bytes as printable characters: read and written.

Those of GPT-2, Llama 3, Qwen, SmolLM2 and the like; what would encode otherwise here is refused.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from flags import UserError
from gguf_file import read_metadata
from tokenizer_state import bpe_state, ordinary_tokens, scores_state
from word_patterns import PATTERNS, as_usually_written

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
    added = contents.get("added_tokens", [])
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise UserError(f"a tokenizer.json of type {model.get('type')} that is no byte-level BPE can't be read here")
    if normalizer and normalizer["type"] not in ("NFC", "NFD", "NFKC", "NFKD"):
        raise UserError(f"a tokenizer.json with the normalizer {normalizer['type']} can't be read here")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise UserError(f"a tokenizer.json with {name} can't be read here")
    for name in ("lstrip", "rstrip", "single_word"):
        if any(token.get(name) for token in added):
            raise UserError(f"a tokenizer.json with added tokens that have {name} can't be read here")
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    special_tokens = {token["content"]: token["id"] for token in added}
    if any(model["vocab"].get(text, i) != i for text, i in special_tokens.items()):
        raise UserError("a tokenizer.json whose added tokens contradict its vocabulary can't be read here")
    pattern = pattern_of(contents["pre_tokenizer"])
    normalization = normalizer and normalizer["type"]
    ignore_merges = bool(model.get("ignore_merges"))
    return printable_state(pattern, model["vocab"], merges, special_tokens, ignore_merges, normalization)


def read_end_tokens(folder):
    """The ids at which a model's texts end, as the newer or the older file says; [] where there is none."""
    for path in (folder / "generation_config.json", folder / "config.json"):
        if path.is_file():
            named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            if named is not None:
                return named if isinstance(named, list) else [named]  # Llama 3 lists several
    return []


def read_chat_template(folder):
    """How a model's conversations are written down: from the newer or the older file; None where there is none."""
    path, newer = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    template = newer.read_text(encoding="utf-8") if newer.is_file() else config.get("chat_template")
    if isinstance(template, list):  # several, for tools and the like
        template = {each["name"]: each["template"] for each in template}.get("default")
    return template and with_ends(template, config.get("bos_token"), config.get("eos_token"))


def with_ends(template, *ends):
    """A template that knows what its own model says where a text begins and ends."""
    for name, end in zip(("bos_token", "eos_token"), ends):
        text = end["content"] if isinstance(end, dict) else end
        if text and name in template:
            template = f"{{%- set {name} = {json.dumps(text)} %}}{template}"
    return template


def pattern_of(pre_tokenizer):
    """The pattern that does what a chain of Hugging Face's pre-tokenizers does."""
    if pre_tokenizer is None:
        raise UserError("a tokenizer.json without a pre-tokenizer can't be read here")
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    *cuts, last = steps
    if last["type"] == "ByteLevel" and not last.get("add_prefix_space"):
        uses_gpt2 = last.get("use_regex", True)
        if not cuts:
            return "gpt2" if uses_gpt2 else "none"
        if [cut["type"] for cut in cuts] == ["Digits"] and cuts[0]["individual_digits"] and uses_gpt2:
            return "smollm"
        if [cut["type"] for cut in cuts] == ["Split"] and "Regex" in cuts[0]["pattern"] and not uses_gpt2:
            written, behavior = cuts[0]["pattern"]["Regex"], (cuts[0]["behavior"], cuts[0]["invert"])
            names = {as_oniguruma_writes(name): name for name in PATTERNS}
            if behavior in (("Isolated", False), ("Removed", True)) and (written in names or "$" not in written):
                return names.get(written, written)
    raise UserError(f"a tokenizer.json with the pre-tokenizers {[step['type'] for step in steps]} can't be read here")


def as_oniguruma_writes(pattern):
    """One of PATTERNS, or another, for Hugging Face's regular expressions, in which `$` ends any line."""
    return as_usually_written(PATTERNS[pattern]).replace("$", r"\z") if pattern in PATTERNS else pattern


def write_hugging_face(state, path):
    special = state["special_tokens"]
    names = {i: printable(token) for i, token in ordinary_tokens(state).items()}
    if special.keys() & set(names.values()):
        raise UserError("a special token that is an ordinary token too can't be told apart in a tokenizer.json")
    pattern = {"Regex": as_oniguruma_writes(state["pattern"])}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    cuts = [] if state["pattern"] == "none" else [split]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    contents = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": text, **flags} for text, i in special.items()],
        "normalizer": state["normalization"] and {"type": state["normalization"]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cuts, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "ignore_merges": state["ignore_merges"],
            "vocab": {name: i for i, name in names.items()} | special,  # else gaps between their ids are closed
            "merges": [[names[left], names[right]] for left, right, _ in state["merges"]],
        },
    }
    path.write_text(json.dumps(contents, ensure_ascii=False), encoding="utf-8")


def read_gguf(path):
    pairs = {key.removeprefix("tokenizer.").removeprefix("ggml."): value
             for key, value in read_metadata(path).items()}
    unknown, control, user_defined = 2, 3, 4
    # end of sequence, of a turn, of a message
    ends = [pairs[name] for name in ("eos_token_id", "eot_token_id", "eom_token_id") if name in pairs]
    beside: dict = {"end_tokens": ends}
    if "chat_template" in pairs:
        first, last = (pairs["tokens"][pairs[f"{end}_token_id"]] if f"{end}_token_id" in pairs else None
                       for end in ("bos", "eos"))
        beside["chat_template"] = with_ends(pairs["chat_template"], first, last)
    if pairs["model"] == "llama":
        tokens = [text.replace("▁", " ") for text in pairs["tokens"]]
        silent = {text: i for i, text in enumerate(tokens) if pairs["token_type"][i] in (unknown, control)}
        prefix = " " if pairs.get("add_space_prefix", True) else ""
        return scores_state(tokens, pairs["scores"], silent, pairs["eos_token_id"], prefix) | beside
    special = {text: i for i, text in enumerate(pairs["tokens"]) if pairs["token_type"][i] in (control, user_defined)}
    patterns = {"gpt-2": "gpt2", "llama-bpe": "llama3", "qwen2": "qwen2", "smollm": "smollm", "gpt-4o": "o200k_base"}
    if pairs["model"] != "gpt2" or pairs["pre"] not in patterns:
        raise UserError(f"{path} has a tokenizer '{pairs['model']}', '{pairs.get('pre')}' that can't be read here")
    vocab = {text: i for i, text in enumerate(pairs["tokens"])}
    merges = [merge.split(" ") for merge in pairs["merges"]]
    normalization = "NFC" if pairs["pre"] == "qwen2" else None
    ignore_merges = pairs["pre"] == "llama-bpe"
    state = printable_state(patterns[pairs["pre"]], vocab, merges, special, ignore_merges, normalization)
    return state | beside
