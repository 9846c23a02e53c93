"""Cutting a call's audio into chunks that are counted, placed in time and long enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from stream.calls import AudioChunk
from stream.fields import RATE_RULE, Codec, Role
from stream.g711 import ALAW_SILENCE, ULAW_SILENCE
from stream.limits import MIN_CHUNK_MS, RATES

__all__ = ["CallIdentity", "ChunkCounter", "frame_bytes", "pieces", "silence"]

Pcm = NDArray[np.int16]


class CallIdentity(TypedDict):
    """The fields that name a call."""

    call_id: str
    call_started_at: datetime
    traceparent: str | None


_SAMPLE_BYTES = {"pcmu": 1, "pcma": 1, "l16": 2}
_SILENCE = {"pcmu": ULAW_SILENCE, "pcma": ALAW_SILENCE, "l16": b"\x00\x00"}


def frame_bytes(codec: Codec, channels: int) -> int | None:
    """Bytes of one sample of all channels; None for wav and flac, which have no fixed size."""
    size = _SAMPLE_BYTES.get(codec)
    return None if size is None else size * channels


def silence(codec: Codec, channels: int, frames: int) -> bytes:
    """`frames` of silence in a raw codec."""
    return _SILENCE[codec] * (channels * frames)


def pieces(blocks: Iterable[Pcm], frames: int, least: int) -> Iterator[Pcm]:
    """The same samples, `frames` at a time; the last piece may be shorter, but is filled with zeros to `least`."""
    held: list[Pcm] = []
    count = 0
    for block in blocks:
        rest = block
        while count + len(rest) >= frames:
            taken = frames - count
            yield np.concatenate([*held, rest[:taken]])
            held, count, rest = [], 0, rest[taken:]
        if len(rest):
            held.append(rest)
            count += len(rest)
    if count:
        last = np.concatenate(held)
        yield np.pad(last, ((0, max(0, least - count)), (0, 0)))


@dataclass(slots=True, kw_only=True)
class ChunkCounter:
    """Gives a call's chunks their seq, place and duration. Raises ValueError for a rate that calls cannot have."""

    call_id: str
    call_started_at: datetime
    codec: Codec
    rate: int
    channels: int
    roles: tuple[Role, ...]
    traceparent: str | None = None
    next_seq: int = 0
    _base_ms: int = 0
    _frames: int = 0

    def __post_init__(self) -> None:
        if self.rate not in RATES:
            raise ValueError(f"{RATE_RULE}, not {self.rate}")

    def identity(self) -> CallIdentity:
        """What every event of the call repeats."""
        return {
            "call_id": self.call_id,
            "call_started_at": self.call_started_at,
            "traceparent": self.traceparent,
        }

    @property
    def least_frames(self) -> int:
        """The shortest chunk there may be."""
        return -(-MIN_CHUNK_MS * self.rate // 1000)

    @property
    def position_ms(self) -> int:
        """Where in the call the next chunk begins. Counted in frames, so that rounding never adds up."""
        return self._base_ms + round(self._frames * 1000 / self.rate)

    def move_to(self, offset_ms: int) -> None:
        if offset_ms < self.position_ms:
            raise ValueError(f"a call goes on at {self.position_ms} ms or later, not at {offset_ms} ms")
        self._base_ms, self._frames = offset_ms, 0

    def chunk(self, value: bytes, frames: int) -> AudioChunk:
        """The next chunk, of `frames` frames encoded as `value`; the same again until `sent`."""
        return AudioChunk(
            **self.identity(),
            codec=self.codec,
            rate=self.rate,
            channels=self.channels,
            roles=self.roles,
            seq=self.next_seq,
            offset_ms=self.position_ms,
            duration_ms=round(frames * 1000 / self.rate),
            value=value,
        )

    def sent(self, frames: int) -> None:
        """The chunk of `frames` frames is handed over: the next one follows it."""
        self.next_seq += 1
        self._frames += frames
