"""What the segmenter remembers of one channel between chunks; compact, versioned, without the utterance's audio."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from speech.resample import resampler
from speech.vad import CONTEXT, STATE

__all__ = ["ChannelState"]

_FORMAT = 1
# format, flags, rate, received, windows, begin, ended, keep_from, speech, silence, tail length, energies
_HEADER = struct.Struct("<BBIqqqqqqqHH")
_TRIGGERED, _CONTINUED, _FLUSHED = 1, 2, 4


@dataclass(slots=True, kw_only=True, eq=False)
class ChannelState:
    """State of one channel at `rate` Hz (one of `speech.resample.RATES`, or ValueError).

    Only `rate`, `received`, `flushed` and `keep_from` are for callers. It holds the last few milliseconds of
    input (a window and the resampler's reach: at most 40 ms), never the audio of an utterance. At most 6 KB.
    """

    rate: int
    received: int = 0  # samples taken in so far, at `rate`
    flushed: bool = False
    windows: int = 0  # windows analysed
    triggered: bool = False  # inside an utterance
    continued: bool = False  # the utterance follows a forced cut
    begin: int = 0  # start of the open utterance, 16 kHz samples
    ended: int = 0  # end of the last utterance, 16 kHz samples
    speech: int = 0  # window in which its speech began
    silence: int = -1  # first window of a possible end, or -1
    kept: int = 0  # 16 kHz sample before which nothing is needed
    energies: list[int] = field(default_factory=list)  # mean squares of the last windows of the open utterance
    tail: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, dtype=np.int16))
    context: NDArray[np.int16] = field(default_factory=lambda: np.zeros(CONTEXT, dtype=np.int16))
    h: NDArray[np.float32] = field(default_factory=lambda: np.zeros(STATE, dtype=np.float32))
    c: NDArray[np.float32] = field(default_factory=lambda: np.zeros(STATE, dtype=np.float32))

    def __post_init__(self) -> None:
        if self.received == 0:
            # The filter reaches before the first sample: silence.
            self.tail = np.zeros(-resampler(self.rate).needs(0)[0], dtype=np.int16)

    @property
    def keep_from(self) -> int:
        """Samples of the channel before this one are never needed again."""
        return min(resampler(self.rate).position(self.kept), self.received)

    def to_bytes(self) -> bytes:
        """The whole state, less than 8 KB."""
        flags = self.triggered * _TRIGGERED | self.continued * _CONTINUED | self.flushed * _FLUSHED
        header = _HEADER.pack(
            _FORMAT,
            flags,
            self.rate,
            self.received,
            self.windows,
            self.begin,
            self.ended,
            self.kept,
            self.speech,
            self.silence,
            len(self.tail),
            len(self.energies),
        )
        arrays = (
            self.tail.astype("<i2"),
            self.context.astype("<i2"),
            self.h.astype("<f4"),
            self.c.astype("<f4"),
            np.array(self.energies, dtype="<u4"),
        )
        return header + b"".join(array.tobytes() for array in arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> ChannelState:
        """The state that `to_bytes` wrote; ValueError for another format or length."""
        if len(data) < _HEADER.size or data[0] != _FORMAT:
            raise ValueError("saved segmenter state is of another version: reset the segmenter or use its version")
        (_, flags, rate, received, windows, begin, ended, kept, speech, silence, tail, energies) = _HEADER.unpack_from(
            data
        )
        sizes = [("<i2", tail), ("<i2", CONTEXT), ("<f4", STATE), ("<f4", STATE), ("<u4", energies)]
        if len(data) != _HEADER.size + sum(np.dtype(kind).itemsize * count for kind, count in sizes):
            raise ValueError("saved segmenter state has the wrong length")
        arrays = []
        offset = _HEADER.size
        for kind, count in sizes:
            arrays.append(np.frombuffer(data, dtype=kind, count=count, offset=offset))
            offset += np.dtype(kind).itemsize * count
        state = cls(
            rate=rate,
            received=received,
            flushed=bool(flags & _FLUSHED),
            windows=windows,
            triggered=bool(flags & _TRIGGERED),
            continued=bool(flags & _CONTINUED),
            begin=begin,
            ended=ended,
            speech=speech,
            silence=silence,
            kept=kept,
            energies=arrays[4].tolist(),
        )
        state.tail = arrays[0].astype(np.int16)
        state.context = arrays[1].astype(np.int16)
        state.h, state.c = arrays[2].astype(np.float32), arrays[3].astype(np.float32)
        return state
