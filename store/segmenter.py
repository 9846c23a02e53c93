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

__all__ = ["SavedAudio", "SavedCall", "adopt", "load", "save", "sizes"]


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


async def sizes(conn: AsyncConnection, topic_id: UUID, partition: int) -> dict[str, int]:
    """All open calls of a partition: bytes of state and audio by call id. Reads neither."""
    found = await conn.execute(
        sa.text(
            "SELECT call_id, octet_length(state) + coalesce((SELECT sum(octet_length(a.pcm))"
            " FROM pii.segmenter_audio a WHERE a.topic_id = s.topic_id AND a.partition = s.partition"
            " AND a.call_id = s.call_id), 0) AS bytes"
            f" FROM ingest.segmenter_state s WHERE {_OWNED}"
        ),
        {"topic_id": topic_id, "partition": partition},
    )
    return {r.call_id: int(r.bytes) for r in found}


_FORMER = sa.text(
    "SELECT topic_id FROM ingest.topics WHERE topic = :topic AND topic_id <> :topic_id ORDER BY generation DESC"
)
_MOVE = (
    sa.text(
        "UPDATE ingest.segmenter_state s SET topic_id = :topic_id WHERE topic_id = :former AND partition = :partition"
        " AND NOT EXISTS (SELECT 1 FROM ingest.segmenter_state n WHERE n.topic_id = :topic_id"
        " AND n.partition = :partition AND n.call_id = s.call_id)"
    ),
    sa.text(
        "UPDATE pii.segmenter_audio a SET topic_id = :topic_id WHERE topic_id = :former AND partition = :partition"
        " AND NOT EXISTS (SELECT 1 FROM ingest.segmenter_state s WHERE s.topic_id = :former"
        " AND s.partition = :partition AND s.call_id = a.call_id)"
    ),
    sa.text("DELETE FROM ingest.segmenter_state WHERE topic_id = :former AND partition = :partition"),
    sa.text("DELETE FROM pii.segmenter_audio WHERE topic_id = :former AND partition = :partition"),
    sa.text(
        "UPDATE ingest.calls SET topic_id = :topic_id WHERE topic_id = :former AND partition = :partition"
        " AND state IN ('started', 'streaming')"
    ),
)


async def adopt(conn: AsyncConnection, topic: str, topic_id: UUID, partition: int) -> None:
    """Calls that were open when the topic was deleted go on in the one of the same name that was made since.

    What never came counts as a gap once they end, or are timed out.
    """
    former = await conn.execute(_FORMER, {"topic": topic, "topic_id": topic_id})
    for (before,) in former.all():
        for statement in _MOVE:
            await conn.execute(statement, {"topic_id": topic_id, "former": before, "partition": partition})


def _joined(pieces: Sequence[bytes]) -> dict[str, object]:
    """All in one bytea, which goes as it is; an array of them would go as text, in twice the bytes. `at` counts from 1."""
    lengths = [len(piece) for piece in pieces]
    starts = [1, *(1 + end for end in accumulate(lengths[:-1]))]
    return {"bytes": b"".join(pieces), "at": starts, "length": lengths}


async def load(
    conn: AsyncConnection, topic_id: UUID, partition: int, call_ids: Sequence[str] | None = None
) -> list[SavedCall]:
    """Open calls of a partition, by call id: these, or all."""
    where: dict[str, object] = {"topic_id": topic_id, "partition": partition}
    only = ""
    if call_ids is not None:
        only, where["call_ids"] = " AND call_id = ANY(CAST(:call_ids AS text[]))", list(call_ids)
    states = await conn.execute(
        sa.text(f"SELECT call_id, state FROM ingest.segmenter_state WHERE {_OWNED}{only} ORDER BY call_id"), where
    )
    calls = {r.call_id: SavedCall(call_id=r.call_id, state=bytes(r.state), audio=[]) for r in states}
    audio = await conn.execute(
        sa.text(
            f"SELECT call_id, channel, start_sample, pcm FROM pii.segmenter_audio WHERE {_OWNED}{only}"
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
