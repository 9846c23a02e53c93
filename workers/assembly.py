"""A call's chunks, put in order: pure, clock-free, and saved as bytes between batches.

A missing seq is waited for until `reorder_chunks` later ones came (or 4 MB of them); then it is lost and becomes a gap.
Time follows the producer's `offset_ms`: a hole is filled with silence, a long one (`BREAK_MS`) ends the open utterance instead,
so that no header can make us invent hours of audio.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

import numpy as np

from errors import Permanent
from store.ledger import VerdictKind
from stream.events import Role

__all__ = ["Assembly", "Pending", "Stretch", "admit", "merge"]

#: Offsets that differ by less are the producer's rounding, not a hole: one telephone frame.
TOLERANCE_MS = 20
#: A hole of silence up to here is filled; the voice activity detector needs less than this to end an utterance.
BREAK_MS = 2_000
#: A day: longer than any call, short enough that sample numbers stay far below 2**53.
LONGEST_CALL_MS = 24 * 3_600_000
#: 20 chunks of 200 ms telephone stereo are 128 kB; 4 MB bounds what a call with 5 s pieces at 48 kHz may hold back.
PENDING_BYTES = 4 * 1024 * 1024

#: An hour of 200 ms chunks of which one in twenty is lost has 900. Beyond, the oldest are joined: what was lost between
#: them would be called a duplicate instead of late.
MOST_RANGES = 2_000

#: call.closed can name 25 000 (stream.limits). The 64 MB of a batch are at most 4 200 channel-seconds at 8 kHz, and an
#: utterance and the silence behind it take 0.84 s: 5 000 more.
MOST_UTTERANCES = 19_000

Pcm = np.ndarray[Any, np.dtype[np.int16]]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Audio in order, int16 [frames, channels], from sample `start` of the call; `breaks`: what ended it."""

    start: int
    pcm: Pcm
    breaks: Literal["no", "gap", "close"]


@dataclass(frozen=True, slots=True)
class Pending:
    """A chunk that came too early."""

    offset_ms: int
    pcm: Pcm


@dataclass(slots=True, kw_only=True)
class Assembly:
    """State of one open call. All but `pending`'s audio is small."""

    call_id: str
    call_started_at: datetime
    channels: int
    roles: tuple[Role, ...]
    rate: int
    product: str | None = None
    traceparent: str | None = None
    next_seq: int = 0
    received: list[list[int]] = field(default_factory=list)  # closed ranges of seq, sorted, not touching
    pending: dict[int, Pending | None] = field(default_factory=dict)  # None: lost (a dead letter), so not waited for
    position: int = 0  # samples of the call that were handed on
    gap_ms: int = 0
    unplaced: int = 0  # chunks lost behind the last one on the time line: no later one tells yet how long they were
    chunk_ms: int = 0  # length of the last chunk
    paused: bool = False
    held: bool = False  # a pause lies since the last chunk: its hole is hold time, not a gap
    closed: Literal["ended", "timed_out"] | None = None
    utterance_ids: list[str] = field(default_factory=list)
    channel_states: list[bytes] = field(default_factory=list)
    twins: bytes = b""  # running comparison of two channels
    twins_at: int = 0  # sample of the call where it was decided
    origins: list[int] = field(default_factory=list)  # sample of the call where each channel's state began

    @property
    def highest_seq(self) -> int:
        """-1 before the first chunk."""
        return self.received[-1][1] if self.received else -1

    @property
    def duration_ms(self) -> int:
        return self.position * 1000 // self.rate

    def has(self, seq: int) -> bool:
        behind = bisect_right(self.received, seq, key=first_of)
        return behind > 0 and seq <= self.received[behind - 1][1]

    def mark(self, seq: int) -> None:
        """A seq that was not received before."""
        ranges, behind = self.received, bisect_right(self.received, seq, key=first_of)
        if behind and ranges[behind - 1][1] == seq - 1:
            ranges[behind - 1][1] = seq
        else:
            ranges.insert(behind, [seq, seq])
            behind += 1
        if behind < len(ranges) and ranges[behind][0] == seq + 1:
            ranges[behind - 1][1] = ranges.pop(behind)[1]
        if len(ranges) > MOST_RANGES and ranges[1][1] < self.next_seq:
            ranges[0][1] = ranges.pop(1)[1]

    def add(self, seq: int, offset_ms: int, pcm: Pcm | None, reorder_chunks: int) -> list[Stretch]:
        """Take a chunk that `admit` let in; None for one that could not be decoded. Returns what is in order now."""
        self.mark(seq)
        self.pending[seq] = None if pcm is None else Pending(offset_ms, pcm)
        waiting = sum(chunk.pcm.nbytes for chunk in self.pending.values() if chunk)
        impatient = len(self.pending) > reorder_chunks or waiting > PENDING_BYTES
        if impatient and self.next_seq not in self.pending:
            self._give_up(min(self.pending))
        return self._drain()

    def close(self, reason: Literal["ended", "timed_out"], last_seq: int | None) -> list[Stretch]:
        """The end: nothing is waited for any more. What is lost at the very end counts as long as the last chunk."""
        out: list[Stretch] = []
        while self.pending:
            self._give_up(min(self.pending))
            out += self._drain()
        missing = 0 if last_seq is None else max(0, last_seq - self.next_seq + 1)
        self.gap_ms += min((self.unplaced + missing) * self.chunk_ms, LONGEST_CALL_MS)
        self.closed = reason
        empty = np.zeros((0, self.channels), np.int16)
        return merge([*out, Stretch(self.position, empty, "close")])

    def _give_up(self, seq: int) -> None:
        self.unplaced += seq - self.next_seq
        self.next_seq = seq

    def _drain(self) -> list[Stretch]:
        out: list[Stretch] = []
        while self.next_seq in self.pending:
            chunk = self.pending.pop(self.next_seq)
            self.next_seq += 1
            if chunk is None:
                self.unplaced += 1
                continue
            self.unplaced = 0
            out += self._place(chunk)
            self.held = self.paused
        return merge(out)

    def _place(self, chunk: Pending) -> list[Stretch]:
        """Put a chunk on the call's time line."""
        out: list[Stretch] = []
        hole_ms = chunk.offset_ms - self.duration_ms
        if hole_ms > TOLERANCE_MS:
            if not self.held:
                self.gap_ms += hole_ms
            target = chunk.offset_ms * self.rate // 1000
            if hole_ms > BREAK_MS:
                out.append(Stretch(self.position, np.zeros((0, self.channels), np.int16), "gap"))
            else:
                silence = np.zeros((target - self.position, self.channels), np.int16)
                out.append(Stretch(self.position, silence, "no"))
            self.position = target
        out.append(Stretch(self.position, chunk.pcm, "no"))
        self.position += len(chunk.pcm)
        return out

    def to_bytes(self) -> bytes:
        """Everything but the audio of open utterances."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)} | {
            "call_started_at": self.call_started_at.isoformat(),
            "channel_states": [base64.b64encode(state).decode() for state in self.channel_states],
            "twins": base64.b64encode(self.twins).decode(),
            "pending": {
                seq: chunk and [chunk.offset_ms, base64.b64encode(chunk.pcm.tobytes()).decode()]
                for seq, chunk in self.pending.items()
            },
        }
        return json.dumps(plain, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, saved: bytes) -> Assembly:
        known = {one.name for one in fields(cls)}
        plain = {
            name: value for name, value in json.loads(saved).items() if name in known
        }  # another version's may say more
        channels = plain["channels"]
        plain["roles"] = tuple(plain["roles"])
        plain["call_started_at"] = datetime.fromisoformat(plain["call_started_at"])
        plain["channel_states"] = [base64.b64decode(state) for state in plain["channel_states"]]
        plain["twins"] = base64.b64decode(plain["twins"])
        plain["pending"] = {
            int(seq): chunk
            and Pending(chunk[0], np.frombuffer(base64.b64decode(chunk[1]), np.int16).reshape(-1, channels))
            for seq, chunk in plain["pending"].items()
        }
        return cls(**plain)


def admit(
    call: Assembly,
    *,
    call_started_at: datetime,
    channels: int,
    roles: tuple[Role, ...],
    rate: int,
    seq: int,
    offset_ms: int,
) -> tuple[VerdictKind, str | None] | None:
    """None lets the chunk in; else its verdict (kind, reason). Raises Permanent for a chunk of another call or layout."""
    if (call_started_at, channels, roles) != (call.call_started_at, call.channels, call.roles):
        raise Permanent("call_id_reused", "call_started_at or the channel layout differ from the call's first record")
    if rate != call.rate:
        raise Permanent("rate_changed", f"the call runs at {call.rate} Hz, this chunk says {rate} Hz")
    if len(call.utterance_ids) >= MOST_UTTERANCES:
        raise Permanent("call_too_long", f"the call has {MOST_UTTERANCES} utterances already")
    if offset_ms > LONGEST_CALL_MS:
        raise Permanent("offset_out_of_range", f"offset_ms is {offset_ms}, a call lasts at most {LONGEST_CALL_MS} ms")
    if call.duration_ms > LONGEST_CALL_MS:  # whatever its chunks' offset_ms say
        raise Permanent("call_too_long", f"the call has {LONGEST_CALL_MS} ms of audio already")
    if call.has(seq):
        return ("duplicate", None)
    if call.closed or seq < call.next_seq:
        return ("late", None)
    return None


def first_of(one: list[int]) -> int:
    return one[0]


def merge(stretches: list[Stretch]) -> list[Stretch]:
    """Join neighbours that nothing breaks, so that the detector gets long pieces."""
    out: list[Stretch] = []
    for stretch in stretches:
        if out and out[-1].breaks == "no" and out[-1].start + len(out[-1].pcm) == stretch.start:
            joined = np.concatenate([out[-1].pcm, stretch.pcm])
            out[-1] = Stretch(out[-1].start, joined, stretch.breaks)
        else:
            out.append(stretch)
    return out
