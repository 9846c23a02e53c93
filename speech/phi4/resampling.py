"""Any usual rate to 16 kHz in torch: a windowed-sinc filter bank, one filter a phase, on the clip's own device."""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from speech.phi4.audio import RATE, resampled_length

__all__ = ["resample"]

_ZERO_CROSSINGS = 32  # a side; with beta 9 the stop band lies 90 dB down, below 16-bit audio's own noise
_BETA = 9.0  # of the Kaiser window
_PASS = 0.95  # of the lower Nyquist frequency
_CHUNK = 1 << 14  # outputs at a time: at 48 kHz their windows, filters and products take 13 MB each


def resample(samples: NDArray[np.float32], rate: int, *, device: torch.device, outputs: range | None = None) -> Tensor:
    """Float32 [n] at `rate` Hz to float32 [ceil(n * 16000 / rate)] at 16 kHz, or to those of its samples in `outputs`.

    `rate` is one that `front_end` takes. Only the input that these outputs need is copied to `device`.
    """
    up, down = RATE // gcd(rate, RATE), rate // gcd(rate, RATE)
    outputs = range(resampled_length(len(samples), rate)) if outputs is None else outputs
    if not outputs:
        return torch.zeros(0, device=device)
    filters, half = _filters(up, down)
    bank = torch.tensor(filters).to(device)
    # Output n lies n * down / up samples in; its window is `half` samples to each side, zeros beyond the ends.
    first, last = (n * down // up for n in (outputs[0], outputs[-1]))
    low, high = first - half + 1, last + half + 1
    given = torch.tensor(np.ascontiguousarray(samples[max(0, low) : high])).to(device)
    missing = max(0, -low)
    windows = pad(given, (missing, high - low - missing - len(given))).unfold(0, 2 * half, 1)
    places = torch.arange(outputs.start, outputs.stop, device=device) * down
    parts = [(windows[part // up - first] * bank[part % up]).sum(-1) for part in places.split(_CHUNK)]
    return torch.cat(parts)


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
