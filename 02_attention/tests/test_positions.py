"""Where a token stands: against transformers, complex numbers, and what a turn must satisfy."""

import math

import pytest
import torch
from for_tests import oracle
from positions import (
    LearnedPositions,
    Rotary,
    half_to_interleaved,
    interleaved_to_half,
    llama3_frequencies,
    rotary_frequencies,
    sinusoidal,
)

CONVENTIONS = pytest.mark.parametrize("interleaved", [False, True], ids=["half", "interleaved"])


def test_sinusoidal_is_the_papers_formula():
    table = sinusoidal(50, 8)
    for pos in (0, 1, 49):
        for i in range(4):
            angle = pos / 10000 ** (2 * i / 8)
            pair = torch.tensor([math.sin(angle), math.cos(angle)])
            assert torch.allclose(table[pos, 2 * i : 2 * i + 2], pair, atol=1e-5), "are sine and cosine in turn?"


def test_sinusoidal_positions_move_by_a_rotation():
    """Section 3.5 of the paper: PE(pos + k) is a linear function of PE(pos), the same for every pos."""
    sines, cosines = sinusoidal(60, 16).unflatten(-1, (8, 2)).unbind(-1)
    waves = torch.complex(cosines, sines)
    moved = waves[7:] / waves[:-7]
    assert torch.allclose(moved, moved[:1].expand_as(moved), atol=1e-4)


def test_learned_positions():
    positions = LearnedPositions(16, 8)
    assert list(positions.state_dict()) == ["weight"]
    assert torch.equal(positions(torch.arange(5)), positions.weight[:5])
    with pytest.raises(ValueError, match="outside the block_size of 16"):
        positions(torch.tensor([16]))


def test_the_first_pair_turns_by_the_angle_of_its_position():
    rotary = Rotary(rotary_frequencies(4, base=100.0), 8)
    x = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(3, 4)
    expected = [[math.cos(t), math.cos(t / 10), math.sin(t), math.sin(t / 10)] for t in range(3)]
    assert torch.allclose(rotary(x), torch.tensor(expected), atol=1e-6), "do 0 and 2 make a pair, 1 and 3 the other?"


def test_interleaved_pairs_are_complex_numbers():
    torch.manual_seed(0)
    frequencies = rotary_frequencies(8)
    x = torch.randn(2, 3, 10, 8)
    turns = torch.polar(torch.ones(10, 4), torch.arange(10)[:, None] * frequencies)
    expected = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (4, 2))) * turns).flatten(-2)
    assert torch.allclose(Rotary(frequencies, 16, interleaved=True)(x), expected, atol=1e-6)


@CONVENTIONS
def test_scores_depend_on_the_distance_only(interleaved):
    torch.manual_seed(0)
    rotary = Rotary(rotary_frequencies(8), 200, interleaved)
    q, k = torch.randn(8), torch.randn(8)
    here, there = rotary(q.expand(200, 8)), rotary(k.expand(200, 8))
    scores = here @ there.T  # (200, 200)
    for distance in (0, 1, 13, 77):
        diagonal = scores.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4), "are both turned the same way?"
    assert not torch.allclose(scores[0, 0], scores[0, 13], atol=1e-2)
    assert torch.allclose(here.norm(dim=-1), q.norm().expand(200)), "a turn keeps the length"


@CONVENTIONS
def test_positions_may_differ_in_every_row(interleaved):
    torch.manual_seed(0)
    rotary = Rotary(rotary_frequencies(8), 32, interleaved)
    x, starts = torch.randn(2, 3, 5, 8), (4, 20)
    turned = rotary(x, torch.stack([torch.arange(start, start + 5) for start in starts]))
    for row, start in enumerate(starts):
        longer = torch.zeros(3, start + 5, 8)
        longer[:, start:] = x[row]
        assert torch.equal(turned[row], rotary(longer)[:, start:])


@pytest.mark.parametrize("shape", [(24, 10), (24,)], ids=["weight", "bias"])
def test_permuted_weights_move_from_one_convention_to_the_other(shape):
    torch.manual_seed(0)
    frequencies = rotary_frequencies(8)
    q, k = torch.randn(shape), torch.randn(shape)  # projections of 3 heads
    x = torch.randn(6, 10)

    def scores(rotary, q, k):
        rows = [x @ each.T if each.dim() == 2 else each.expand(6, -1) for each in (q, k)]  # (T, nh * hs)
        q, k = (rotary(each.reshape(6, 3, 8).transpose(0, 1)) for each in rows)  # (nh, T, hs)
        return q @ k.transpose(1, 2)

    half, interleaved = Rotary(frequencies, 16), Rotary(frequencies, 16, interleaved=True)
    expected = scores(interleaved, q, k)
    moved = scores(half, interleaved_to_half(q, 8), interleaved_to_half(k, 8))
    assert torch.allclose(moved, expected, atol=1e-5), "is every head permuted on its own?"
    assert not torch.allclose(scores(half, q, k), expected, atol=1e-2)
    assert torch.equal(half_to_interleaved(interleaved_to_half(q, 8), 8), q)
    assert interleaved_to_half(torch.arange(4), 4).tolist() == [0, 2, 1, 3]
    assert half_to_interleaved(torch.arange(6), 6).tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("scaled", [False, True], ids=["default", "llama3"])
def test_frequencies_and_turns_equal_transformers(scaled):
    transformers = oracle("transformers")
    llama = oracle("transformers.models.llama.modeling_llama")
    torch.manual_seed(0)
    # Llama 3.2 1B: heads of 64, base 500000, 32 times the 8192 positions of the first training
    settings = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192}
    theta = {"rope_theta": 500000.0, "rope_type": "llama3", **settings} if scaled else {"rope_theta": 500000.0,
                                                                                         "rope_type": "default"}
    config = transformers.LlamaConfig(hidden_size=128, num_attention_heads=2, max_position_embeddings=131072,
                                      rope_parameters=theta)
    frequencies = rotary_frequencies(64, 500000.0)
    if scaled:
        frequencies = llama3_frequencies(frequencies, **settings)
    theirs = llama.LlamaRotaryEmbedding(config)
    assert torch.allclose(frequencies, theirs.inv_freq, rtol=1e-6, atol=0), "which wavelengths stay, which are divided?"
    x = torch.randn(1, 2, 300, 64)
    expected, _ = llama.apply_rotary_pos_emb(x, x, *theirs(x, torch.arange(300)[None]))
    assert torch.allclose(Rotary(frequencies, 300)(x), expected, atol=1e-5)


def test_half_precision_stays_half():
    rotary = Rotary(rotary_frequencies(8), 16)
    assert rotary(torch.randn(1, 5, 8).bfloat16()).dtype == torch.bfloat16
    assert not rotary.state_dict(), "checkpoints hold no tables"


def test_bad_shapes_are_said_in_words():
    with pytest.raises(ValueError, match="size 7 must be even"):
        rotary_frequencies(7)
    with pytest.raises(ValueError, match="size 5 must be even"):
        sinusoidal(10, 5)
    rotary = Rotary(rotary_frequencies(8), 16)
    with pytest.raises(ValueError, match="17 tokens are more than the block_size of 16"):
        rotary(torch.zeros(17, 8))
    with pytest.raises(ValueError, match="outside the block_size of 16"):
        rotary(torch.zeros(1, 8), torch.tensor([16]))
