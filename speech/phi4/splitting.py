"""Cutting a clip in two where it is quietest: after a loop, halves often go well."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["join_texts", "quietest"]

_WINDOW_SECONDS = 0.1


def quietest(audio: NDArray[np.float32], rate: int) -> int:
    """The sample to cut before: the middle of the quietest 100 ms between a quarter and three quarters of the clip.

    Of equals the one nearest to the middle.
    """
    window = max(1, min(round(_WINDOW_SECONDS * rate), len(audio) // 4))
    first, last = len(audio) // 4, 3 * len(audio) // 4
    sums = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    starts = np.arange(first, max(first + 1, last - window + 1))
    energy = sums[starts + window] - sums[starts]
    centres = starts + window // 2
    # Sums of squares of silence differ by rounding alone: what differs by less than -120 dBFS is equal.
    quiet = np.flatnonzero(energy <= energy.min() + window * 1e-12)
    best = quiet[np.argmin(np.abs(centres[quiet] - len(audio) // 2))]
    return int(centres[best])


def join_texts(texts: list[str]) -> str:
    """Pieces of one text in order; no space where Chinese or Japanese characters meet."""
    joined = ""
    for text in filter(None, (text.strip() for text in texts)):
        spaced = joined and not (_no_spaces(joined[-1]) and _no_spaces(text[0]))
        joined += f" {text}" if spaced else text
    return joined


def _no_spaces(character: str) -> bool:
    # CJK symbols, kana, ideographs, full-width forms.
    return "⺀" <= character <= "鿿" or "豈" <= character <= "﫿" or "！" <= character <= "￯"
