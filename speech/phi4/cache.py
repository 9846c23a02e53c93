"""The KV cache: one pool of tokens a layer, cut into slots that each hold one sequence from front to back.

Slots may differ in size (utterances, summaries); a slot's tokens lie side by side, so attention reads them where they
are: it is given the pool, each row's first token and its length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Cache"]


class Cache:
    """Keys and values [pool tokens, kv heads, head dim] of each layer; `sizes` are the slots' tokens."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        layers: int,
        kv_heads: int,
        head_dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        if not sizes or min(sizes) < 1:
            raise ValueError("a cache needs slots of at least one token")
        self.sizes = tuple(sizes)
        starts = [0]
        for size in sizes:
            starts.append(starts[-1] + size)
        self.longest = max(sizes)
        self.first_tokens = tuple(starts[:-1])
        # Slot to its first token in the pool, on the device: decoding looks it up there.
        self.starts = torch.tensor(starts[:-1], dtype=torch.int64, device=device)
        shape = (layers, starts[-1], kv_heads, head_dim)
        # Zeros, not empty: a graph's warm-up may read slots that nobody wrote, and NaN times zero is NaN.
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)

    @property
    def bytes(self) -> int:
        """Memory that keys and values take."""
        return 2 * int(self.keys.numel()) * int(self.keys.element_size())

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Stores keys and values [n, kv heads, head dim] at the pool's tokens `places` int64 [n]."""
        self.keys[layer].index_copy_(0, places, keys)
        self.values[layer].index_copy_(0, places, values)

    def copy_prefix(self, source: int, target: int, tokens: int) -> None:
        """Copies the first `tokens` tokens of one slot to the front of another: a prompt that is computed once.

        Both sequences must have the same mode and the same RoPE factors. Raises IndexError beyond either slot.
        """
        if tokens > min(self.sizes[source], self.sizes[target]):
            raise IndexError(f"{tokens} tokens do not fit slots of {self.sizes[source]} and {self.sizes[target]}")
        a, b = self.first_tokens[source], self.first_tokens[target]
        for pool in (self.keys, self.values):
            pool[:, b : b + tokens] = pool[:, a : a + tokens]
