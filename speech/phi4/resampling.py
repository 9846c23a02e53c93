"""Any usual rate to 16 kHz in torch: a windowed-sinc filter bank, one filter a phase, on the clip's own device."""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech.phi4.audio import RATE, resampled_length

__all__ = ["resample"]

_ZERO_CROSSINGS = 32  # a side; with beta 9 the stop band lies 90 dB down, below 16-bit audio's own noise
_BETA = 9.0  # of the Kaiser window
_PASS = 0.95  # of the lower Nyquist frequency
_CHUNK = 1 << 14  # outputs at a time: at 48 kHz their windows, filters and products take 13 MB each


def resample(samples: Tensor, rate: int) -> Tensor:
    """Float32 [n] at `rate` Hz to float32 [ceil(n * 16000 / rate)] at 16 kHz; a rate that `front_end` takes."""
    up, down = RATE // gcd(rate, RATE), rate // gcd(rate, RATE)
    if up == down:
        return samples
    filters, half = _filters(up, down)
    bank = torch.tensor(filters).to(samples.device)
    # Windows of 2 * half samples, the output's own place between the two middle ones.
    padded = torch.nn.functional.pad(samples, (half - 1, half + 1))
    windows = padded.unfold(0, 2 * half, 1)
    places = torch.arange(resampled_length(len(samples), rate), device=samples.device) * down
    parts = [(windows[part // up] * bank[part % up]).sum(-1) for part in places.split(_CHUNK)]
    return torch.cat(parts) if parts else samples.new_zeros(0)


@lru_cache(maxsize=16)
def _filters(up: int, down: int) -> tuple[NDArray[np.float32], int]:
    """Filters [up, 2 * half] in float32, phase p for outputs p / up of a sample behind an input sample."""
    cutoff = _PASS * min(1.0, up / down)  # of the input's Nyquist frequency
    half = int(np.ceil(_ZERO_CROSSINGS / cutoff))
    offsets = np.arange(-half + 1, half + 1)[None, :] - np.arange(up)[:, None] / up
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (offsets / half) ** 2, 0, None))) / np.i0(_BETA)
    filters = cutoff * np.sinc(cutoff * offsets) * window
    filters /= filters.sum(axis=1, keepdims=True)  # a constant stays what it is
    return filters.astype(np.float32), half
