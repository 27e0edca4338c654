"""What is stored of a tokenizer: a dict that JSON and checkpoints can hold.

That of a byte-pair encoding has `tokens`, {bytes as latin-1: id}, at least of those that no merge makes,
`merges`, [[left id, right id, id]] in the order of learning, and `special_tokens`, {text: id}. Any kind may have
`end_tokens`, [id], those at which a model says that its answer ends, and `chat_template`, how a conversation is
written down for it.
"""

import regex
from word_patterns import PATTERNS

MOST_IDS = 1_000_000  # more than any vocabulary has; ids must fit into a character and into half a pair


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


def check(state):
    """Raise ValueError where a byte-pair encoding's state contradicts itself, as that of a damaged file may."""
    known, special = ordinary_tokens(state), state["special_tokens"]
    ids = [*known, *special.values(), *(i for merge in state["merges"] for i in merge), *state.get("end_tokens", ())]
    if not all(type(i) is int and 0 <= i < MOST_IDS for i in ids):
        raise ValueError("an id is no number, or none that an id can be")
    if not all({left, right} <= known.keys() for left, right, _ in state["merges"]):
        raise ValueError("a merge of tokens that nothing makes")
    if len(set(special.values())) < len(special) or known.keys() & set(special.values()):
        raise ValueError("two tokens have the same id")
    if state["normalization"] not in (None, "NFC", "NFD", "NFKC", "NFKD"):
        raise ValueError(f"no normalization {state['normalization']}")
    regex.compile(PATTERNS.get(state["pattern"]) or state["pattern"])


def ordinary_tokens(state):
    """{id: bytes} of all tokens but the special ones."""
    tokens = {i: token.encode("latin-1") for token, i in state["tokens"].items()}
    for left, right, i in state["merges"]:
        if left in tokens and right in tokens:  # Llama 3 also lists merges of parts that only come later
            tokens[i] = tokens[left] + tokens[right]
    return tokens


def scores_state(tokens, scores, special_tokens, end_of_text, dummy_prefix=" "):
    return {
        "kind": "scores",
        "tokens": tokens,
        "scores": scores,
        "special_tokens": special_tokens,
        "end_of_text": end_of_text,
        "dummy_prefix": dummy_prefix,
    }
