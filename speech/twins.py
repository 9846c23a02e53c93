"""Fake stereo: two channels that carry the same sound, perhaps at another level."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChannelCorrelation", "identical_channels"]

_FORMAT = struct.Struct("<BIqqqqq?")
_LOUD = 200  # of 32768, -44 dBFS: what counts as sound, above line noise
_ALIKE = 0.98  # two speakers with cross-talk stay below 0.9; one recording encoded twice is above 0.99
#: 12 dB, as energy: what is fainter than that is the other channel's cross-talk, while one speaker is silent.
_LEVELS = 16


@dataclass(slots=True, kw_only=True)
class ChannelCorrelation:
    """Running correlation of two channels at `rate` Hz. Sums are whole numbers, so the split does not matter.

    `identical` is None until half a second of sound was heard on both channels at once, then a verdict that stays:
    taken at that very sample, however the audio was split.
    """

    rate: int
    loud: int = 0  # samples with sound so far
    aa: int = 0
    bb: int = 0
    ab: int = 0
    seen: int = 0
    decided: bool = False

    @property
    def identical(self) -> bool | None:
        """True: treat as mono. False: two speakers. None: too little sound yet (two silences look alike)."""
        if not self.decided:
            return None
        return self.correlation() >= _ALIKE and max(self.aa, self.bb) <= _LEVELS * min(self.aa, self.bb)

    def correlation(self) -> float:
        """-1..1; 0 where either channel is silent."""
        if self.aa == 0 or self.bb == 0:
            return 0.0
        return self.ab / sqrt(self.aa * self.bb)

    def update(self, a: NDArray[np.int16], b: NDArray[np.int16]) -> None:
        """The next samples of both channels, int16 [n] each."""
        if len(a) != len(b):
            raise ValueError("both channels must have the same number of samples")
        if self.decided:
            return
        x, y = a.astype(np.int64), b.astype(np.int64)
        sound = np.cumsum((np.abs(x) >= _LOUD) & (np.abs(y) >= _LOUD)) + self.loud
        wanted = self.rate // 2
        if len(sound) and sound[-1] >= wanted:
            stop = int(np.searchsorted(sound, wanted)) + 1
            x, y, sound = x[:stop], y[:stop], sound[:stop]
            self.decided = True
        if len(sound):
            self.loud = int(sound[-1])
        self.seen += len(x)
        self.aa += int(x @ x)
        self.bb += int(y @ y)
        self.ab += int(x @ y)

    def to_bytes(self) -> bytes:
        """46 bytes."""
        return _FORMAT.pack(1, self.rate, self.loud, self.aa, self.bb, self.ab, self.seen, self.decided)

    @classmethod
    def from_bytes(cls, data: bytes) -> ChannelCorrelation:
        """What `to_bytes` wrote; ValueError for another version."""
        if len(data) != _FORMAT.size or data[0] != 1:
            raise ValueError("saved channel correlation is of another version")
        _, rate, loud, aa, bb, ab, seen, decided = _FORMAT.unpack(data)
        return cls(rate=rate, loud=loud, aa=aa, bb=bb, ab=ab, seen=seen, decided=decided)


def identical_channels(a: NDArray[np.int16], b: NDArray[np.int16], *, rate: int) -> bool:
    """Whether two whole channels, int16 [n], carry the same sound. Silence alone is no proof."""
    running = ChannelCorrelation(rate=rate)
    running.update(a, b)
    return running.identical is True
