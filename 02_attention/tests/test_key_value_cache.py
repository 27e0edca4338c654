"""Decoding with a cache equals the whole forward, for every kind of attention, and however the text arrives."""

import pytest
import torch
from attention import CausalSelfAttention, GroupedQueryAttention
from for_tests import oracle
from key_value_cache import KeyValueCache, left_pad
from latent_attention import MultiHeadLatentAttention
from positions import LearnedPositions, Rotary, llama3_frequencies, rotary_frequencies

KINDS = {
    "multi-head": lambda turn: CausalSelfAttention(32, 4),
    "multi-head, window": lambda turn: CausalSelfAttention(32, 4, window=3),
    "grouped": lambda turn: GroupedQueryAttention(32, 4, 2, rotary=turn),
    "multi-query, window": lambda turn: GroupedQueryAttention(32, 4, 1, rotary=turn, qk_norm=True, bias=True, window=3),
    "latent": lambda turn: MultiHeadLatentAttention(32, 4, 12, 6, turn, query_latent_size=10),
}


@pytest.fixture(params=KINDS)
def layers(request):
    """Two layers: what the first one gives to padding, the second one reads."""
    torch.manual_seed(0)
    turn = Rotary(rotary_frequencies(8), 16)
    return [KINDS[request.param](turn) for _ in range(2)]


@pytest.fixture(autouse=True)
def decoding():
    with torch.no_grad():
        yield


def forward(layers, x, caches=(None, None), **more):
    for layer, cache in zip(layers, caches):
        x = x + layer(x, cache=cache, **more)
    return x


def empty(layers, batch_size, block_size=16, **more):
    return [KeyValueCache(layer.cached_sizes, batch_size, block_size, **more) for layer in layers]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("pieces", [[1] * 10, [10], [6, 1, 1, 2], [3, 3, 4], [1, 9]])
def test_cached_equals_full(layers, pieces, fused):
    for layer in layers:
        layer.fused = fused
    x = torch.randn(2, 10, 32)
    caches = empty(layers, 2)
    out = torch.cat([forward(layers, piece, caches) for piece in x.split(pieces, dim=1)], dim=1)
    assert torch.allclose(out, forward(layers, x), atol=1e-5), "do positions and the mask count what is stored?"
    assert [cache.length for cache in caches] == [10, 10]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("prompt_pieces", [[5], [1, 4], [1] * 5])
def test_prompts_of_different_lengths_in_one_batch(layers, prompt_pieces, fused):
    for layer in layers:
        layer.fused = fused
    lengths = [8, 5, 7, 4]  # of which the last 3 are written after the prompts
    texts = [torch.randn(1, length, 32) for length in lengths]
    padding = torch.tensor([8 - length for length in lengths])
    x = torch.randn(4, 8, 32)  # noise where the padding stands
    for row, text in enumerate(texts):
        x[row, padding[row] :] = text
    caches = empty(layers, 4, padding=padding)
    out = torch.cat([forward(layers, piece, caches) for piece in x.split([*prompt_pieces, 1, 1, 1], dim=1)], dim=1)
    for row, text in enumerate(texts):
        alone = forward(layers, text)[0]
        assert torch.allclose(out[row, padding[row] :], alone, atol=1e-5), "does padding shift positions or leak in?"

    # the same without a cache: who calls gives the positions, and a mask of what is no padding
    tokens = torch.arange(8) >= padding[:, None]  # (B, S)
    positions = (torch.arange(8) - padding[:, None]).clamp(min=0)
    whole = forward(layers, x, positions=positions, mask=tokens[:, None, None])
    assert torch.allclose(whole, out, atol=1e-5)


def test_a_mask_beside_the_cache(layers):
    x = torch.randn(1, 6, 32)
    hidden = torch.tensor([True, True, False, True, True, True])
    expected = forward(layers, x, mask=hidden)
    caches = empty(layers, 1)
    out = [forward(layers, x[:, :4], caches, mask=hidden[:4]), forward(layers, x[:, 4:5], caches, mask=hidden[:5]),
           forward(layers, x[:, 5:], caches, mask=hidden)]
    assert torch.allclose(torch.cat(out, dim=1), expected, atol=1e-5)


def test_the_newest_tokens_can_be_forgotten(layers):
    x, other = torch.randn(1, 6, 32), torch.randn(1, 3, 32)
    caches = empty(layers, 1)
    forward(layers, torch.cat([x, other], dim=1), caches)
    for cache in caches:
        cache.length = 4
    assert torch.allclose(forward(layers, x[:, 4:], caches), forward(layers, x)[:, 4:], atol=1e-5)


@pytest.mark.parametrize("padding", [None, torch.tensor([0, 2, 1])])
@pytest.mark.parametrize("rows", [[2, 0], [1], [0, 0, 2], [2, 1, 0], [1, 1, 1, 0, 2, 2]])
def test_rows_are_dropped_reordered_and_copied(layers, rows, padding):
    """As if those rows had been read alone from the beginning."""
    x, new = torch.randn(3, 5, 32), torch.randn(len(rows), 2, 32)
    caches = empty(layers, 3, padding=padding)
    forward(layers, x, caches)
    for cache in caches:
        cache.select(rows)
    out = [forward(layers, piece, caches) for piece in new.split(1, dim=1)]
    alone = empty(layers, len(rows), padding=None if padding is None else padding[rows])
    expected = forward(layers, torch.cat([x[rows], new], dim=1), alone)[:, 5:]
    assert torch.allclose(torch.cat(out, dim=1), expected, atol=1e-5), "does the padding move with its row?"


def test_one_prompt_that_was_read_once_is_continued_in_many_ways(layers):
    prompt, new = torch.randn(1, 6, 32), torch.randn(8, 3, 32)
    caches = empty(layers, 1)
    forward(layers, prompt, caches)
    for cache in caches:
        cache.select([0] * 8)
    whole = forward(layers, torch.cat([prompt.expand(8, -1, -1), new], dim=1))
    assert torch.allclose(forward(layers, new, caches), whole[:, 6:], atol=1e-5), "do the copies share their memory?"


def test_dropping_and_reordering_take_no_new_memory():
    cache = KeyValueCache(((2, 8), (2, 8)), 4, 16)
    before = [each.data_ptr() for each in cache.stored]
    for rows in ([3, 2, 1, 0], [1, 1, 0, 2], [2, 0], [1]):
        cache.append(*torch.randn(2, len(cache.stored[0]), 2, 3, 8))
        cache.select(rows)
        assert [each.data_ptr() for each in cache.stored] == before and len(cache.stored[0]) == len(rows)


def test_learned_positions_count_from_behind_the_padding():
    """How a model with added positions decodes: the cache says where the next tokens stand."""
    torch.manual_seed(0)
    tokens, places, layer = torch.nn.Embedding(20, 32), LearnedPositions(16, 32), CausalSelfAttention(32, 4)

    def hidden(ids, cache=None):
        T = ids.shape[1]
        positions = torch.arange(T) if cache is None else cache.next_positions(T)
        return layer(tokens(ids) + places(positions), cache=cache)

    prompts = [[3, 1, 4, 1, 5], [9, 2]]
    ids, padding = left_pad(prompts)
    assert ids.tolist() == [[3, 1, 4, 1, 5], [0, 0, 0, 9, 2]] and padding.tolist() == [0, 3]
    cache = KeyValueCache(layer.cached_sizes, 2, 16, padding=padding)
    first, second = hidden(ids, cache), hidden(torch.tensor([[6], [6]]), cache)
    for row, prompt in enumerate(prompts):
        alone = hidden(torch.tensor([[*prompt, 6]]))[0]
        assert torch.allclose(first[row, -1], alone[-2], atol=1e-6)
        assert torch.allclose(second[row, -1], alone[-1], atol=1e-6), "does the padding count as a position?"


@pytest.mark.slow
def test_a_padded_batch_is_continued_as_by_transformers():
    """A small Llama of transformers with our attention and cache in it, against its own `generate`."""
    transformers = oracle("transformers")
    torch.manual_seed(0)
    scaling = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=100, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=None,
        rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, **scaling},
    )).eval()
    for parameter in llama.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    turn = Rotary(llama3_frequencies(rotary_frequencies(8), **scaling), 64)
    ours = [GroupedQueryAttention(64, 8, 2, rotary=turn) for _ in llama.model.layers]
    for attention, layer in zip(ours, llama.model.layers):
        for mine, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("projection", "o_proj")):
            setattr(attention, mine, getattr(layer.self_attn, theirs))
    ids, padding = left_pad([torch.randint(1, 100, (length,)).tolist() for length in (11, 3, 7, 20)])
    caches = empty(ours, 4, block_size=64, padding=padding)
    out = new = ids
    for _ in range(30):
        x = llama.model.embed_tokens(new)
        for attention, layer, cache in zip(ours, llama.model.layers, caches):
            x = x + attention(layer.input_layernorm(x), cache=cache)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        new = llama.lm_head(llama.model.norm(x[:, -1:])).argmax(-1)  # (B, 1)
        out = torch.cat([out, new], dim=1)
    tokens = (torch.arange(20) >= padding[:, None]).long()
    expected = llama.generate(ids, attention_mask=tokens, max_new_tokens=30, do_sample=False)
    assert torch.equal(out, expected), "do positions count from behind the padding, and is it never looked at?"


def test_memory_is_taken_once():
    cache = KeyValueCache(((2, 8), (2, 8)), 1, 16)
    before = [each.data_ptr() for each in cache.stored]
    for _ in range(4):
        k, v = cache.append(torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8))
    assert k.shape == v.shape == (1, 2, 12, 8)
    assert [each.data_ptr() for each in (k, v)] == before, "is the memory copied at each token?"


def test_bytes_per_token():
    def size(attention, **more):
        return KeyValueCache(attention.cached_sizes, 3, 16, **more).bytes_per_token

    turn = Rotary(rotary_frequencies(8), 16)
    assert size(CausalSelfAttention(32, 4)) == 2 * 4 * 8 * 4  # keys and values, heads, numbers, bytes
    assert size(GroupedQueryAttention(32, 4, 2, rotary=turn)) == 2 * 2 * 8 * 4
    assert size(GroupedQueryAttention(32, 4, 1), dtype=torch.bfloat16) == 2 * 1 * 8 * 2
    assert size(MultiHeadLatentAttention(32, 4, 12, 8, turn)) == (12 + 8) * 4


def test_a_full_cache_and_a_wrong_batch_are_said_in_words(layers):
    caches = empty(layers, 2, block_size=4)
    forward(layers, torch.randn(2, 3, 32), caches)
    with pytest.raises(ValueError, match="the cache is full: it has 3 of 4 tokens, and 2 more do not fit"):
        forward(layers, torch.randn(2, 2, 32), caches)
    with pytest.raises(ValueError, match="the cache has room for"):
        forward(layers, torch.randn(1, 1, 32), caches)
