"""How a model knows where a token stands: a wave or a learned vector that is added, or a turn of queries and keys.

Shapes: T positions, C = embedding size, hs = size of the vectors that are turned (a head's), always even.
"""

import torch
from torch import nn


def sinusoidal(block_size, embedding_size):
    """The vectors (T, C) that the first transformer adds to its token embeddings: sines and cosines in turn.

    Vaswani et al. 2017, "Attention Is All You Need", section 3.5.
    """
    # PE(pos, 2i) = sin(pos / 10000^(2i/C)), PE(pos, 2i+1) = cos(pos / 10000^(2i/C))
    angles = torch.arange(block_size)[:, None] * rotary_frequencies(embedding_size)  # (T, C/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)  # (T, C)


class LearnedPositions(nn.Embedding):
    """One vector per position, learned like any other weight: positions (...) -> (..., C).

    Gehring et al. 2017, "Convolutional Sequence to Sequence Learning", section 3.1; GPT-2 has it.
    """

    def forward(self, positions):
        try:
            return super().forward(positions)
        except IndexError:
            raise ValueError(f"a position lies outside the block_size of {self.num_embeddings}") from None


def rotary_frequencies(size, base=10000.0):
    """By how many radians per position each of the size/2 pairs turns: the first by 1, the last by nearly 1/base.

    Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", section 3.2.2.
    """
    if size % 2:
        raise ValueError(f"positions turn or wave in pairs: the size {size} must be even")
    return 1.0 / base ** (torch.arange(0, size, 2) / size)  # base^(-2i/size)


def llama3_frequencies(frequencies, factor, low_freq_factor=1.0, high_freq_factor=4.0,
                       original_max_position_embeddings=8192):
    """Slow down the pairs that a longer text would turn further than any text of the training did.

    A pair that turns at least `high_freq_factor` times within the original length stays as it is, one that turns
    less than `low_freq_factor` times becomes `factor` times slower, and those between change gradually.
    Meta 2024, llama-models, `apply_scaling`; the names are those of Hugging Face's configs.
    """
    turns = original_max_position_embeddings * frequencies / (2 * torch.pi)
    kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor


class Rotary(nn.Module):
    """Turn each pair of numbers of x (..., T, hs) by an angle that grows with its position.

    The product of two turned vectors depends on how far apart they stand, not on where. Which numbers are a pair is
    a convention: i and i + hs/2 (`rotate half`: Hugging Face, GPT-NeoX), or 2i and 2i+1 (`interleaved`: the paper,
    Meta, DeepSeek). One Rotary serves all layers; it has no weights.
    Su et al. 2021, section 3.4.2, equation 34.
    """

    cos: torch.Tensor  # (block_size, hs/2)
    sin: torch.Tensor

    def __init__(self, frequencies, block_size, interleaved=False):
        super().__init__()
        self.size = 2 * len(frequencies)
        self.block_size = block_size
        self.interleaved = interleaved
        angles = torch.arange(block_size, device=frequencies.device)[:, None] * frequencies
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x, positions=None):
        """positions: (T,), or (B, T) for x (B, nh, T, hs); without, 0 to T - 1."""
        T = x.shape[-2]
        if positions is None:
            if self.block_size < T:
                raise ValueError(f"{T} tokens are more than the block_size of {self.block_size}")
            cos, sin = self.cos[:T], self.sin[:T]  # (T, hs/2)
        else:
            try:
                cos, sin = self.cos[positions], self.sin[positions]
            except IndexError:
                raise ValueError(f"a position lies outside the block_size of {self.block_size}") from None
        if cos.dim() == 3:
            cos, sin = cos[:, None], sin[:, None]  # (B, 1, T, hs/2): the same for all heads
        a, b = (x[..., 0::2], x[..., 1::2]) if self.interleaved else x.chunk(2, dim=-1)
        # (a, b) turned by the angle: (a cos - b sin, a sin + b cos)
        turned = a * cos - b * sin, a * sin + b * cos
        turned = torch.stack(turned, -1).flatten(-2) if self.interleaved else torch.cat(turned, -1)
        return turned.type_as(x)  # the table may be more precise than x


def interleaved_to_half(weight, size):
    """Reorder the rows of a query's or key's projection (nh * hs, ...) from interleaved pairs to rotate half.

    Heads of 4 rows: 0 1 2 3 -> 0 2 1 3. With both reordered the scores stay the same; values are not touched.
    """
    return weight.unflatten(0, (-1, size // 2, 2)).transpose(1, 2).flatten(0, 2)


def half_to_interleaved(weight, size):
    """The way back: heads of 6 rows: 0 1 2 3 4 5 -> 0 3 1 4 2 5."""
    return weight.unflatten(0, (-1, 2, size // 2)).transpose(1, 2).flatten(0, 2)
