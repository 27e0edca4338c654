"""What a layer remembers of the tokens before, so that a new token costs one step and not the whole text again.

    ids, padding = left_pad([[5, 6, 7], [8]])            # [[5, 6, 7], [0, 0, 8]], [0, 2]
    cache = KeyValueCache(attention.cached_sizes, batch_size=2, block_size=64, padding=padding)
    attention(x, cache=cache)                            # the prompts (B, T, C); then one token at a time
"""

import torch


def left_pad(prompts, padding_id=0):
    """Lists of ids -> ids (B, T) that all end in the last column, and how many places each row leaves free (B,)."""
    longest = max(len(prompt) for prompt in prompts)
    padding = torch.tensor([longest - len(prompt) for prompt in prompts])
    rows = [[padding_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    return torch.tensor(rows), padding


class KeyValueCache:
    """The keys and values of one layer, in memory that is taken once: tensors (B, heads, block_size, size).

    `sizes` has (heads, size) for each thing to remember: an attention's `cached_sizes`. The first padding[b] places
    of row b hold no token: attention never looks at them, and positions count from behind them. Decode under
    torch.no_grad(). To forget the newest tokens, lower `length`.
    Shazeer 2019, "Fast Transformer Decoding: One Write-Head is All You Need", section 2.4.
    """

    def __init__(self, sizes, batch_size, block_size, padding=None, dtype=None, device=None):
        self.stored = [torch.zeros(batch_size, heads, block_size, size, dtype=dtype, device=device)
                       for heads, size in sizes]
        self.block_size = block_size
        self.padding = padding  # (B,) or None
        self.length = 0

    @property
    def bytes_per_token(self):
        """What one more token of one text takes in this layer."""
        return sum(each[0, :, 0].nbytes for each in self.stored)

    def next_positions(self, count):
        """Where the next tokens stand in their texts: (count,), or (B, count) if rows begin at different places."""
        places = torch.arange(self.length, self.length + count, device=self.stored[0].device)
        if self.padding is None:
            return places
        return (places - self.padding[:, None]).clamp(min=0)  # padding itself stands anywhere

    def append(self, *new):
        """Store keys, values, ... of T tokens, each (B, heads, T, size), and return all so far (B, heads, S, size)."""
        end = self.length + new[0].shape[2]
        if end > self.block_size:
            raise ValueError(f"the cache is full: it has {self.length} of {self.block_size} tokens, "
                             f"and {new[0].shape[2]} more do not fit")
        for stored, each in zip(self.stored, new):
            place = stored[:, :, self.length : end]
            if place.shape != each.shape:
                raise ValueError(f"the cache has room for {tuple(place.shape)}, not for {tuple(each.shape)}")
            place.copy_(each)
        self.length = end
        return [stored[:, :, :end] for stored in self.stored]

    def select(self, rows):
        """Go on with these rows, in this order: some to drop those that have ended, one n times to copy it."""
        for i, stored in enumerate(self.stored):
            chosen = stored[rows, :, : self.length]  # a copy, and only of what is in use
            if len(rows) > len(stored):
                stored = stored.new_empty(len(rows), *stored.shape[1:])
            self.stored[i] = stored[: len(rows)]
            self.stored[i][:, :, : self.length] = chosen
        if self.padding is not None:
            self.padding = self.padding[rows]
