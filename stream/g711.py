"""ITU-T G.711: tables that turn a byte of mu-law or A-law to a linear sample of 16 bits."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALAW", "ALAW_SILENCE", "ULAW", "ULAW_SILENCE"]


def _ulaw() -> NDArray[np.int16]:
    code = ~np.arange(256) & 0xFF  # mu-law travels inverted
    exponent, mantissa = (code >> 4) & 7, code & 0xF
    magnitude = (((mantissa << 3) + 132) << exponent) - 132  # 14 bits, shifted to fill 16; the bias is 33 x 4
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw() -> NDArray[np.int16]:
    code = np.arange(256) ^ 0x55  # every second bit travels inverted
    exponent, mantissa = (code >> 4) & 7, code & 0xF
    magnitude = (mantissa << 4) + 8  # 13 bits, shifted to fill 16; the middle of the step
    magnitude = np.where(exponent > 0, (magnitude + 0x100) << np.maximum(exponent - 1, 0), magnitude)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


ULAW: Final = _ulaw()
ALAW: Final = _alaw()
ULAW_SILENCE: Final = b"\xff"  # +0
ALAW_SILENCE: Final = b"\xd5"  # +8, the smallest there is
