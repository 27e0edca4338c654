"""One model, any kind of attention; training it, and drawing what it looks at."""

import re

import checkpoint
import pytest
import torch
import torch.nn.functional as F
from attention_maps import draw_maps
from attention_model import KINDS, AttentionModel, OriginalScaleAttention
from for_tests import refuse, shared, succeed
from key_value_cache import KeyValueCache


@pytest.fixture(params=KINDS)
def kind(request):
    torch.manual_seed(0)
    return request.param


def small(kind, layer_count=2):
    return AttentionModel(20, 32, 8, 4, layer_count, kind)


def test_one_batch_is_learned_by_heart(kind):
    model, ids = small(kind), torch.randint(20, (4, 9))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(200):
        _, loss = model(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_only_without_a_mask_the_future_is_seen(kind):
    model, ids = small(kind), torch.randint(20, (1, 8))
    changed = ids.clone()
    changed[0, 5:] = (ids[0, 5:] + 1) % 20
    before, after = (model(each)[0][:, :5] for each in (ids, changed))
    assert torch.equal(before, after) == (kind != "no_mask")


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"recurrent"}), indirect=True)
def test_maps_are_probabilities_of_each_layer(kind):
    maps = small(kind).attention_maps(torch.randint(20, (3, 8)))
    heads = 1 if kind == "single_head" else 4
    assert len(maps) == 2 and all(each.shape == (3, heads, 8, 8) for each in maps)
    assert all(torch.allclose(each.sum(-1), torch.ones(3, heads, 8)) for each in maps)
    assert all((each.triu(1) == 0).all() == (kind != "no_mask") for each in maps)


def test_cached_numbers_are_those_of_the_caches(kind):
    model = small(kind)
    if kind in ("no_mask", "recurrent"):
        assert model.cached_numbers() is None
        return
    caches = [KeyValueCache(attention.cached_sizes, 1, 8) for attention in model.attentions]
    assert 4 * model.cached_numbers() == sum(cache.bytes_per_token for cache in caches)
    expected = {"grouped_query": 64, "multi_query": 32, "latent": 24}.get(kind, 128)
    assert model.cached_numbers() == expected


def test_generation_keeps_the_prompt_and_slides(kind):
    model, ids = small(kind), torch.randint(20, (2, 5))
    written = model.generate(ids, 7)
    assert written.shape == (2, 12) and torch.equal(written[:, :5], ids) and written.max() < 20


def test_the_originals_scale_is_that_of_the_embedding():
    torch.manual_seed(0)
    attention, x = OriginalScaleAttention(24, 3), torch.randn(2, 7, 24)
    q, k, v = (each.unflatten(-1, (3, 8)).transpose(1, 2) for each in attention.query_key_value(x).chunk(3, -1))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=24**-0.5)
    assert torch.allclose(attention(x), attention.projection(y.transpose(1, 2).flatten(2)), atol=1e-6)


def test_a_figure_has_a_picture_for_each_head_and_names_its_tokens():
    figure = draw_maps({"one": torch.rand(1, 2, 3), "many": torch.rand(3, 2, 3)}, ["a", "b"], ["x", "y", "z"])
    pictures = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in pictures] == ["one", "many, head 1", "many, head 2", "many, head 3"]
    assert [label.get_text() for label in pictures[-1].get_xticklabels()] == ["x", "y", "z"]
    assert [label.get_text() for label in pictures[0].get_yticklabels()] == ["a", "b"]
    assert all(axes.images[0].get_clim() == (0, 1) for axes in pictures), "one scale, or they can't be compared"


@pytest.mark.slow
def test_train_and_infer(tmp_path):
    text, saved = shared("tinyshakespeare/input.txt"), tmp_path / "a.pt"
    words = ("02_attention/train.py", "-t", "char", "-d", text, "-s", saved, 16, 4, 32, 3e-3, 24, 2)
    first, second = (succeed(*words).partition("device")[2] for _ in range(2))
    assert first == second, "same seed, same numbers"
    assert "ln(vocabulary size) 4.190" in first
    assert re.findall(r"^(\w+): [\d,]+ parameters, (.*)$", first, re.MULTILINE) == [
        ("no_mask", "no cache"), ("single_head", "128 bytes cached per token"),
        ("multi_head", "128 bytes cached per token"), ("grouped_query", "64 bytes cached per token"),
        ("latent", "32 bytes cached per token"),
    ]
    assert saved.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"

    # on from its weights, some of the kinds; the others stay as they were
    before = checkpoint.load(saved, "attention_models")["models"]
    out = succeed("02_attention/train.py", "-l", saved, "-d", text, "--kinds", "multi_head,latent")
    last = re.search(r"multi_head: .*\n +validation loss .* ([\d.]+)\n", first)[1]
    assert re.search(rf"multi_head: .*\n +validation loss {last}", out) and "no_mask" not in out
    after = checkpoint.load(saved, "attention_models")["models"]
    changed = {kind for kind in before if any((before[kind][name] != after[kind][name]).any() for name in before[kind])}
    assert before.keys() == after.keys() and changed == {"multi_head", "latent"}

    out = succeed("02_attention/infer.py", "First Citizen:", "-l", saved, "-o", tmp_path / "maps.png")
    assert "no_mask: from the last token, the heads look most at" in out
    assert (tmp_path / "maps.png").read_bytes()[:4] == b"\x89PNG"
    assert "1 to 32" in refuse("02_attention/infer.py", "x" * 33, "-l", saved)
    assert "no maps of 'none'" in refuse("02_attention/infer.py", "-l", saved, "--kinds", "none")
    assert "contradicts" in refuse("02_attention/train.py", "-l", saved, "-d", text, 32)
    assert "divisible" in refuse("02_attention/train.py", 10, 4, 32, 3e-3, 20, 4)
    assert "must be even" in refuse("02_attention/train.py", "-d", text, "-t", "char", "--kinds", "multi_query", 12, 4,
                                    32, 3e-3, 20, 4)
    assert "no kind 'best'" in refuse("02_attention/train.py", "--kinds", "latent,best")
    assert "no checkpoint" in refuse("02_attention/infer.py", "-l", "missing.pt")
