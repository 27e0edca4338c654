"""What a model knows before it has read anything, and what its heads look at: embeddings and attention maps.

The report: embedding spaces "each contain their own unique human concepts like gender and location". The nearest
neighbours of a token's vector, and sums and differences of vectors, show how much of that is so.
Mikolov, Yih and Zweig 2013, "Linguistic Regularities in Continuous Space Word Representations", section 5.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from flags import UserError


def word_id(tokenizer, word):
    """The id of a word as it stands within a sentence, with the space before it, or alone if that is one token."""
    for text in (f" {word.strip()}", word):
        ids = tokenizer.encode(text, disallowed_special=())
        if len(ids) == 1:
            return ids[0]
    raise UserError(f"'{word}' is {len(ids)} tokens in this vocabulary: only what is one token has a vector")


def nearest_to(model, vector, count=8, without=()):
    """The tokens whose embeddings point most nearly where `vector` (C,) does: (ids, cosines), the nearest first."""
    embeddings = F.normalize(model.token_embedding.weight.float(), dim=-1)  # (V, C)
    cosines = embeddings @ F.normalize(vector.float(), dim=-1)
    cosines[list(without)] = -torch.inf
    best = cosines.topk(count)
    return best.indices.tolist(), best.values.tolist()


def nearest(model, tokenizer, word, count=8):
    """The tokens nearest to a word: (ids, cosines)."""
    own = word_id(tokenizer, word)
    return nearest_to(model, model.token_embedding.weight[own], count, [own])


def analogy(model, tokenizer, words, count=8):
    """What is to the third word as the second is to the first, by vectors: b - a + c, the three left out."""
    a, b, c = (word_id(tokenizer, word) for word in words)
    vectors = F.normalize(model.token_embedding.weight[[a, b, c]].float(), dim=-1)
    return nearest_to(model, vectors[1] - vectors[0] + vectors[2], count, [a, b, c])


def attention_maps(model, ids):
    """How much each token of ids (1, T) looks at each other one: for each layer (nh, T, T)."""
    positions = torch.arange(ids.shape[1], device=ids.device)
    maps = []

    def look(block, inputs):
        maps.append(block.attention.weights(block.attention_norm(inputs[0]), positions)[0])

    hooks = [block.register_forward_pre_hook(look) for block in model.blocks]
    try:
        with torch.no_grad():
            model.hidden(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return maps
