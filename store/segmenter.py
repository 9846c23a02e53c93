"""What the segmenter knows of open calls, written in the transaction that moves the watermark.

State without audio is replaced; audio of utterances that are not cut yet is appended in rows and removed once the
cut is made, so that a commit costs what came in, not what is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["SavedAudio", "SavedCall", "load", "save"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedAudio:
    """int16 little-endian samples of one channel, from start_sample (counted from the start of the channel)."""

    channel: int
    start_sample: int
    pcm: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCall:
    """An open call: its state, and its audio by channel and first sample."""

    call_id: str
    state: bytes
    audio: list[SavedAudio]


_OWNED = "topic_id = :topic_id AND partition = :partition"
_STATES = sa.text(
    "INSERT INTO ingest.segmenter_state AS s (topic_id, partition, call_id, state)"
    " SELECT :topic_id, :partition, call_id, substring(CAST(:bytes AS bytea) FROM at FOR length)"
    " FROM unnest(CAST(:call_id AS text[]), CAST(:at AS int4[]), CAST(:length AS int4[]))"
    " AS u(call_id, at, length) ORDER BY call_id"
    " ON CONFLICT (topic_id, partition, call_id) DO UPDATE SET state = excluded.state"
)
_APPEND = sa.text(
    "INSERT INTO pii.segmenter_audio (topic_id, partition, call_id, channel, start_sample, end_sample, pcm)"
    " SELECT :topic_id, :partition, call_id, channel, start_sample, start_sample + length / 2,"
    " substring(CAST(:bytes AS bytea) FROM at FOR length)"
    " FROM unnest(CAST(:call_id AS text[]), CAST(:channel AS int4[]), CAST(:start AS int8[]), CAST(:at AS int4[]),"
    " CAST(:length AS int4[])) AS u(call_id, channel, start_sample, at, length) ORDER BY call_id, channel, start_sample"
)
_TRIM = sa.text(
    "DELETE FROM pii.segmenter_audio a USING unnest(CAST(:call_id AS text[]), CAST(:channel AS int4[]),"
    f" CAST(:before AS int8[])) AS u(call_id, channel, before_sample) WHERE {_OWNED}"
    " AND a.call_id = u.call_id AND a.channel = u.channel AND a.end_sample <= u.before_sample"
)
_CLOSE = tuple(
    sa.text(f"DELETE FROM {table} WHERE {_OWNED} AND call_id = ANY(CAST(:call_id AS text[]))")
    for table in ("ingest.segmenter_state", "pii.segmenter_audio")
)


def _joined(pieces: Sequence[bytes]) -> dict[str, object]:
    """All in one bytea, which goes as it is; an array of them would go as text, in twice the bytes. `at` counts from 1."""
    lengths = [len(piece) for piece in pieces]
    starts = [1, *(1 + end for end in accumulate(lengths[:-1]))]
    return {"bytes": b"".join(pieces), "at": starts, "length": lengths}


async def load(conn: AsyncConnection, topic_id: UUID, partition: int) -> list[SavedCall]:
    """All open calls of a partition, by call id."""
    where = {"topic_id": topic_id, "partition": partition}
    states = await conn.execute(
        sa.text(f"SELECT call_id, state FROM ingest.segmenter_state WHERE {_OWNED} ORDER BY call_id"), where
    )
    calls = {r.call_id: SavedCall(call_id=r.call_id, state=bytes(r.state), audio=[]) for r in states}
    audio = await conn.execute(
        sa.text(
            f"SELECT call_id, channel, start_sample, pcm FROM pii.segmenter_audio WHERE {_OWNED}"
            " ORDER BY call_id, channel, start_sample"
        ),
        where,
    )
    for r in audio:
        calls[r.call_id].audio.append(SavedAudio(channel=r.channel, start_sample=r.start_sample, pcm=bytes(r.pcm)))
    return list(calls.values())


async def save(
    conn: AsyncConnection,
    topic_id: UUID,
    partition: int,
    *,
    states: Sequence[tuple[str, bytes]],
    appended: Sequence[tuple[str, int, int, bytes]],
    trimmed: Sequence[tuple[str, int, int]],
    closed: Sequence[str],
) -> None:
    """Write what a batch changed, in this order: states, new audio, trimmed audio, closed calls.

    `appended`: (call_id, channel, start_sample, pcm); a piece that is there already is a bug and raises
    IntegrityError. `trimmed`: (call_id, channel, before_sample): pieces that end there or earlier go; one that
    reaches over stays whole. Every call with audio has a state.
    """
    where: dict[str, object] = {"topic_id": topic_id, "partition": partition}
    if states:
        latest = dict(states)
        await conn.execute(_STATES, {**where, "call_id": list(latest), **_joined(list(latest.values()))})
    if appended:
        call_ids, channels, starts, pcm = zip(*appended, strict=True)
        await conn.execute(
            _APPEND,
            {**where, "call_id": list(call_ids), "channel": list(channels), "start": list(starts), **_joined(pcm)},
        )
    if trimmed:
        call_ids, channels, before = zip(*trimmed, strict=True)
        await conn.execute(
            _TRIM, {**where, "call_id": list(call_ids), "channel": list(channels), "before": list(before)}
        )
    if closed:
        for statement in _CLOSE:
            await conn.execute(statement, {**where, "call_id": list(closed)})
