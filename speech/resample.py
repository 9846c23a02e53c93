"""Resampling to 16 kHz in pieces: the same samples however the input is split.

Output sample n is a windowed-sinc filter around input position n * M / L (the rates' reduced ratio). The
coefficients are whole multiples of 2**-20, so every product and sum is an integer below 2**53: float64 holds it
exactly, in whatever order a BLAS adds. The only state a stream needs is its own last input samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import gcd

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

__all__ = ["RATES", "TARGET_RATE", "Resampler", "resampler"]

TARGET_RATE = 16_000
RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_BLOCK = 512  # outputs per block: one window of the voice detector
_GROUP = 32  # outputs per matrix row: one wide product is faster than many narrow ones
_ZERO_CROSSINGS = 16  # a side; with beta 6: flat to 0.8 of Nyquist, -60 dB stop band, enough for a detector
_BETA = 6.0  # of the Kaiser window
_SCALE = 1 << 20  # 2**15 (int16) * 2**20 * 2**7 taps = 2**42 < 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampler:
    """A fixed ratio `up`/`down` from `rate` to 16 kHz; `half` input samples are needed on either side."""

    rate: int
    up: int
    down: int
    half: int
    # One pattern per phase at which a block of 512 outputs can begin: first input of each group of outputs,
    # and the filters as [groups, taps, outputs per group].
    _starts: tuple[NDArray[np.int64], ...]
    _filters: tuple[NDArray[np.float64], ...]
    _taps: int

    def position(self, output: int) -> int:
        """Input sample (floor) at which output sample `output` lies."""
        return output * self.down // self.up

    def needs(self, block: int) -> tuple[int, int]:
        """First input sample and the one after the last that block `block` (512 outputs) reads; may be < 0."""
        first = self.position(block * _BLOCK) - self.half + 1
        last = self.position((block + 1) * _BLOCK - 1) + self.half + 2
        return first, last

    def complete(self, received: int) -> int:
        """Blocks that can be made, counted from the start of the stream, once `received` samples are there."""
        return max(0, -(-(received - self.half - 1) * self.up // self.down) // _BLOCK)

    def blocks(self, first: int, count: int, inputs: NDArray[np.int16]) -> NDArray[np.int16]:
        """Resample `count` blocks from block `first`; `inputs` begins at `needs(first)[0]`. Returns int16 [count * 512]."""
        if len(inputs) < self.needs(first + count - 1)[1] - self.needs(first)[0]:
            raise ValueError("too few input samples for so many blocks")
        if self.up == self.down:
            return inputs[self.half - 1 : self.half - 1 + count * _BLOCK]
        data = inputs.astype(np.float64)
        if self.up <= 2:
            out = self._regular(data, count)
        else:
            base = self.needs(first)[0]
            out = np.concatenate(
                [self._irregular(data[self.needs(b)[0] - base :], b) for b in range(first, first + count)]
            )
        np.rint(out, out=out)
        np.clip(out, -32768, 32767, out=out)
        return out.astype(np.int16)

    def _regular(self, data: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """Every group of outputs uses the same filters, a fixed number of inputs further on."""
        step = data.strides[0]
        advance = _GROUP * self.down // self.up
        view = as_strided(data, (count * _BLOCK // _GROUP, self._taps), (step * advance, step), writeable=False)
        out: NDArray[np.float64] = (view @ self._filters[0][0]).reshape(-1)
        return out

    def _irregular(self, data: NDArray[np.float64], block: int) -> NDArray[np.float64]:
        pattern = block % len(self._starts)
        starts, filters = self._starts[pattern], self._filters[pattern]
        step = data.strides[0]
        view = as_strided(data, (int(starts[-1]) + 1, self._taps), (step, step), writeable=False)
        out: NDArray[np.float64] = np.matmul(view[starts][:, None, :], filters).reshape(-1)
        return out


@cache
def resampler(rate: int) -> Resampler:
    """The resampler for one of `RATES`; ValueError for another rate."""
    if rate not in RATES:
        raise ValueError(f"unsupported sample rate {rate}: use one of {', '.join(map(str, RATES))}")
    divisor = gcd(TARGET_RATE, rate)
    up, down = TARGET_RATE // divisor, rate // divisor
    if up == down:
        return Resampler(rate=rate, up=1, down=1, half=1, _starts=(), _filters=(), _taps=2)
    cutoff = 0.94 * min(1.0, up / down)  # a little below the lower Nyquist frequency
    half = int(np.ceil(_ZERO_CROSSINGS / min(1.0, up / down)))
    group = _GROUP if up <= 2 else 16
    width = 2 * half + (group - 1) * down // up + 1
    patterns = 1 if up <= 2 else up // gcd(_BLOCK, up)
    starts: list[NDArray[np.int64]] = []
    filters: list[NDArray[np.float64]] = []
    for pattern in range(patterns):
        outputs = np.arange(pattern * _BLOCK, (pattern + 1) * _BLOCK, dtype=np.int64).reshape(-1, group)
        origin = outputs[:, :1] * down // up - half + 1  # first input a group may read
        inputs = origin[:, :, None] + np.arange(width)[None, :, None]
        # Position of each output minus that of each input, exact until the last division.
        distance = (outputs[:, None, :] * down - inputs * up) / up
        bank = _kernel(distance, cutoff, half)
        starts.append((origin[:, 0] - origin[0, 0]).astype(np.int64))
        filters.append(bank[:1] if up <= 2 else bank)
    return Resampler(
        rate=rate, up=up, down=down, half=half, _starts=tuple(starts), _filters=tuple(filters), _taps=width
    )


def _kernel(distance: NDArray[np.float64], cutoff: float, half: int) -> NDArray[np.float64]:
    """Windowed sinc at `distance` input samples, [groups, taps, outputs]; each filter sums to one, on the 2**-20 grid."""
    inside = np.abs(distance) < half
    window = np.i0(_BETA * np.sqrt(np.clip(1.0 - (distance / half) ** 2, 0.0, 1.0))) / np.i0(_BETA)
    taps = np.where(inside, cutoff * np.sinc(cutoff * distance) * window, 0.0)
    taps /= taps.sum(axis=1, keepdims=True)
    result: NDArray[np.float64] = np.rint(taps * _SCALE) / _SCALE
    return result
