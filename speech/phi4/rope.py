"""Rotary position embedding with LongRoPE's two sets of factors, as tables that are indexed per token.

A sequence keeps one set from its first token to its last (`Phi4Config.long_rope`): keys in the cache were turned with
it, so a change on the way would mix two geometries. transformers changes at 4,096 and throws the cache away.
"""

from __future__ import annotations

import torch
from torch import Tensor

from speech.phi4.config import RopeConfig

__all__ = ["RopeTables", "rotate"]


class RopeTables:
    """Cosines and sines of both sets, one row a position: first the short set's rows, then the long set's."""

    def __init__(self, config: RopeConfig, max_positions: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self._short_rows = min(config.original_positions, max_positions)
        short = _angles(config, config.short_factor, self._short_rows)
        long = _angles(config, config.long_factor, max_positions)
        angles = torch.cat([short, long])
        # Angles in float32 and the model's dtype after, as the reference does: its rounding is part of the weights.
        self._cos = (angles.cos() * config.attention_factor).to(device=device, dtype=dtype)
        self._sin = (angles.sin() * config.attention_factor).to(device=device, dtype=dtype)

    def __call__(self, positions: Tensor, long: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine [n, dims / 2] for positions int64 [n] of sequences that are long or not (bool [n]).

        A short sequence must stay below the original 4,096 positions; this is not checked here.
        """
        rows = positions + long.to(positions.dtype) * self._short_rows
        return self._cos[rows], self._sin[rows]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the first dimensions of each head: x [n, heads, head dim], cos and sin [n, dims / 2]."""
    half = cos.shape[-1]
    cos, sin = cos[:, None], sin[:, None]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


def _angles(config: RopeConfig, factors: tuple[float, ...], positions: int) -> Tensor:
    steps = torch.arange(0, config.dims, 2, dtype=torch.int64).float() / config.dims
    frequencies = 1.0 / (torch.tensor(factors, dtype=torch.float32) * config.theta**steps)
    return torch.arange(positions, dtype=torch.float32)[:, None] * frequencies
