"""The encoder's subsampler: three convolutions of stride 2, [frames, 80] to [frames / 8, hidden].

Clips of different lengths share a batch. What lies behind a clip's own end must be zero wherever a convolution reads
it, as it would be for the clip alone: padding turns non-zero in the mean and variance normalisation and by every bias,
so it is zeroed after each. A long recording is cut in time: output t reads frames 8t - 7 to 8t + 7, so a tile that
begins one token early and drops that token computes exactly what the whole would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, linear, relu, silu

from speech.phi4.config import AudioConfig

__all__ = ["ACTIVATIONS", "MOST_FRAMES", "Subsampler", "Tensors"]

# 32 clips of 30 s, or fewer where they would take more memory than _MOST_BYTES. The first convolution makes
# frames / 2 * 40 * 1024 values: beyond 104,857 frames an index of 32 bits no longer reaches them, and kernels fail or,
# worse, do not.
MOST_FRAMES = 32 * 3000
_MOST_BYTES = 1 << 29  # of the first convolution's output: 4 clips of 30 s in bf16, enough to keep a GPU busy
ACTIVATIONS = {"relu": relu, "silu": silu, "swish": silu, "gelu": gelu}
Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tile:
    """Frames [first, last) of clip `clip`; its first `halo` tokens are dropped."""

    clip: int
    first: int
    last: int
    halo: int


class Subsampler:
    """`tensors` are the encoder's, by their names below `encoder.`."""

    def __init__(self, config: AudioConfig, tensors: Tensors, *, tile_frames: int = 4096) -> None:
        if tile_frames % config.time_reduction:
            raise ValueError(f"tile_frames must be a multiple of {config.time_reduction}")
        self._config = config
        self._t = tensors
        self._tile_frames = tile_frames
        self._activation = ACTIVATIONS[config.subsample_activation]
        frame_bytes = (
            config.conv_channels * ((config.mels + 1) // 2) * tensors["embed.conv.0.weight"].element_size() // 2
        )
        self._budget = max(1, _MOST_BYTES // frame_bytes)

    def __call__(self, features: Sequence[Tensor], continued: Sequence[bool]) -> list[Tensor]:
        """Each clip's [frames, mels], float, to [ceil(frames / 8), hidden] in the weights' dtype.

        A continued one begins inside its clip, with a token's frames of what came before; that token is not given.
        """
        parts: dict[tuple[int, int], Tensor] = {}
        for batch in _batches(self._tiles([len(f) for f in features], continued), min(MOST_FRAMES, self._budget)):
            inputs = [features[tile.clip][tile.first : tile.last] for tile in batch]
            for tile, tokens in zip(batch, self._run(inputs), strict=True):
                parts[tile.clip, tile.last] = tokens[tile.halo :]
        joined: list[list[Tensor]] = [[] for _ in features]
        for (clip, _), tokens in sorted(parts.items(), key=lambda item: item[0]):
            joined[clip].append(tokens)
        return [tiles[0] if len(tiles) == 1 else torch.cat(tiles) for tiles in joined]

    def _tiles(self, frames: Sequence[int], continued: Sequence[bool]) -> list[_Tile]:
        step = self._config.time_reduction
        tiles = []
        for clip, (total, inside) in enumerate(zip(frames, continued, strict=True)):
            for first in range(0, total, self._tile_frames):
                halo = 1 if first else int(inside)
                last = min(first + self._tile_frames, total)
                tiles.append(_Tile(clip=clip, first=first - step if first else 0, last=last, halo=halo))
        return tiles

    def _run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        lengths = [len(x) for x in inputs]
        weight = self._t["embed.conv.0.weight"]
        x = torch.nn.utils.rnn.pad_sequence(list(inputs), batch_first=True).to(weight.dtype)
        x = (x - self._t["encoder_embedding.global_mean"]) * self._t["encoder_embedding.global_invstd"]
        ragged = _is_ragged(lengths)

        def cut(x: Tensor) -> Tensor:
            """Zeroes every row's padding; x is [batch, channels, time, mels]."""
            if not ragged:
                return x
            ends = torch.tensor(lengths, device=x.device)
            inside = torch.arange(x.shape[2], device=x.device) < ends[:, None]
            return x.mul_(inside[:, None, :, None])

        x = cut(x[:, None])
        for stage in range(self._config.stages):
            first = "embed.conv.0" if stage == 0 else f"embed.conv.{3 * stage - 1}"
            groups = 1 if stage == 0 else x.shape[1]
            x = conv2d(x, self._t[f"{first}.weight"], self._t[f"{first}.bias"], stride=2, padding=1, groups=groups)
            if stage:
                # The pointwise convolution reads one place only: zeroing once, behind it, is enough.
                x = conv2d(x, self._t[f"embed.conv.{3 * stage}.weight"], self._t[f"embed.conv.{3 * stage}.bias"])
            lengths = [(length + 1) // 2 for length in lengths]
            x = cut(x.relu_() if self._activation is relu else self._activation(x))
        x = x.transpose(1, 2).flatten(2)
        x = linear(x, self._t["embed.out.weight"], self._t["embed.out.bias"])
        return [row[:length] for row, length in zip(x, lengths, strict=True)]


def _is_ragged(lengths: Sequence[int]) -> bool:
    return len(set(lengths)) > 1


def _batches(tiles: Sequence[_Tile], most: int) -> list[list[_Tile]]:
    """Tiles of like length together, at most `most` frames a batch (or one tile), padding counted."""
    batches: list[list[_Tile]] = []
    for tile in sorted(tiles, key=lambda tile: tile.first - tile.last):  # longest first
        batch = batches[-1] if batches else []
        longest = batch[0].last - batch[0].first if batch else 0
        # A tile that is much shorter begins a batch of its own: less than a quarter of a batch is padding.
        if batch and (len(batch) + 1) * longest <= most and 4 * (tile.last - tile.first) >= 3 * longest:
            batch.append(tile)
        else:
            batches.append([tile])
    return batches
