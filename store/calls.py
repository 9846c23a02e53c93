"""Calls: one row each in ingest.calls, how far its audio is; and one per run in ingest.call_runs once the call is closed.

    ingest.calls        started ──► streaming ──► ended, timed_out or audio_corrupt, which stay
    ingest.call_runs    transcribed ──► analysed, unsupported_language or dead_lettered; or no_speech at once

The replay of its dead letter takes a call from dead_lettered back to transcribed (`reopen_runs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from store.unnest import Insert

__all__ = [
    "AudioState",
    "Call",
    "CallRun",
    "RunState",
    "claim",
    "close_run",
    "closed",
    "finish_runs",
    "get_many",
    "give_up_run",
    "reopen_runs",
    "silent",
    "upsert_many",
]

AudioState = Literal["started", "streaming", "ended", "timed_out", "audio_corrupt"]
RunState = Literal["transcribed", "analysed", "no_speech", "unsupported_language", "dead_lettered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A row of ingest.calls. `received`: inclusive ranges of sequence numbers, rising, apart."""

    call_id: str
    call_started_at: datetime
    channels: int
    roles: tuple[str, ...]
    topic_id: UUID
    partition: int
    state: AudioState
    product: str | None = None
    close_reason: str | None = None
    received: tuple[tuple[int, int], ...] = ()
    last_seq: int | None = None
    duration_ms: int = 0
    gap_ms: int = 0
    late_chunks: int = 0
    late_ms: int = 0
    paused: bool = False
    metadata: Mapping[str, object] = field(default_factory=dict)
    trace_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRun:
    """A closed call in one run."""

    call_id: str
    run_id: UUID
    call_started_at: datetime
    state: RunState
    utterances: int
    trace_id: str | None = None


_COLUMNS = {
    "call_id": "text",
    "call_started_at": "timestamptz",
    "channels": "int4",
    "roles": "text[]",
    "product": "text",
    "topic_id": "uuid",
    "partition": "int4",
    "state": "text",
    "close_reason": "text",
    "received": "int8multirange",
    "last_seq": "int8",
    "duration_ms": "int8",
    "gap_ms": "int8",
    "late_chunks": "int4",
    "late_ms": "int8",
    "paused": "bool",
    "metadata": "jsonb",
    "trace_id": "text",
}
# What the first record fixed is not in this list: a different one is a dead letter, decided before.
_UPDATED = ("product", "received", "last_seq", "duration_ms", "gap_ms", "late_chunks", "late_ms", "paused", "metadata")
_UPSERT = Insert(
    table="ingest.calls",
    columns=_COLUMNS,
    key=("call_id",),
    conflict="DO UPDATE SET "
    + ", ".join(f"{c} = excluded.{c}" for c in _UPDATED)
    + ", close_reason = coalesce(t.close_reason, excluded.close_reason)"
    + ", trace_id = coalesce(t.trace_id, excluded.trace_id), last_commit_at = now()"
    + ", state = CASE WHEN t.state IN ('started', 'streaming') THEN excluded.state ELSE t.state END",
)
_SELECT = (
    "SELECT "
    + ", ".join(
        "(SELECT coalesce(array_agg(ARRAY[lower(r), upper(r) - 1] ORDER BY lower(r)), '{}')"
        " FROM unnest(received) AS r) AS received"
        if c == "received"
        else c
        for c in _COLUMNS
    )
    + " FROM ingest.calls"
)


async def get_many(conn: AsyncConnection, ids: Iterable[str]) -> dict[str, Call]:
    """Calls by id; those that are not there are left out."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    found = await conn.execute(sa.text(_SELECT + " WHERE call_id = ANY(CAST(:ids AS text[]))"), {"ids": wanted})
    return {r.call_id: _call(r) for r in found}


async def upsert_many(conn: AsyncConnection, rows: Sequence[Call]) -> None:
    """Write calls as they are now. Start, layout and partition stay as first written, and so does the end.

    `last_commit_at` becomes Postgres' now(). Of one call_id in the batch the first row counts: pass each call once.
    """
    await _UPSERT.run(conn, [{c: getattr(row, c) for c in _COLUMNS} for row in rows])


_CLAIM = Insert(table="ingest.calls", columns=_COLUMNS, key=("call_id",))


async def claim(conn: AsyncConnection, rows: Sequence[Call]) -> None:
    """Write the calls that are not there yet; the others stay as they are."""
    await _CLAIM.run(conn, [{c: getattr(row, c) for c in _COLUMNS} for row in rows])


async def silent(
    conn: AsyncConnection, *, topic_id: UUID, partition: int, seconds: float, paused_seconds: float, limit: int = 100
) -> list[Call]:
    """Open calls of a partition without a commit for so long by Postgres' clock (the reaper's question)."""
    found = await conn.execute(
        sa.text(
            _SELECT + " WHERE state IN ('started', 'streaming') AND topic_id = :topic_id AND partition = :partition"
            " AND last_commit_at < now() - make_interval(secs =>"
            " CASE WHEN paused THEN CAST(:paused AS float8) ELSE CAST(:seconds AS float8) END)"
            " ORDER BY last_commit_at LIMIT :limit"
        ),
        {"topic_id": topic_id, "partition": partition, "seconds": seconds, "paused": paused_seconds, "limit": limit},
    )
    return [_call(r) for r in found]


_CLOSE = sa.text(
    "INSERT INTO ingest.call_runs (call_id, run_id, call_started_at, state, utterances, trace_id, finished_at)"
    " VALUES (:call_id, :run_id, :call_started_at, CAST(:state AS text), :utterances, :trace_id,"
    " CASE WHEN CAST(:state AS text) = 'transcribed' THEN NULL ELSE clock_timestamp() END)"
    " ON CONFLICT (call_id, run_id) DO NOTHING"
)
_UNNAMED = tuple(
    sa.text(
        f"DELETE FROM {table} WHERE run_id = :run_id AND {month} = :call_started_at"
        f" AND utterance_id IN (SELECT utterance_id FROM ingest.utterances WHERE call_id = :call_id"
        " AND run_id = :run_id AND call_started_at = :call_started_at"
        " AND utterance_id <> ALL(CAST(:named AS uuid[])))"
    )
    for table, month in (
        ("ingest.aspect_mentions", "subject_at"),
        ("pii.utterance_texts", "call_started_at"),
        ("ingest.utterances", "call_started_at"),
    )
)


async def close_run(conn: AsyncConnection, row: CallRun, utterance_ids: Sequence[UUID]) -> bool:
    """Reach call.closed in a run: state transcribed or no_speech; False if it was closed before (the first wins).

    Utterances that call.closed does not name are removed, and `facts.insert_utterances` takes no new ones.
    """
    key = {"call_id": row.call_id, "run_id": row.run_id, "call_started_at": row.call_started_at}
    result = await conn.execute(
        _CLOSE,
        {**key, "state": row.state, "utterances": row.utterances, "trace_id": row.trace_id},
    )
    if result.rowcount == 0:
        return False
    for statement in _UNNAMED:
        await conn.execute(statement, {**key, "named": list(utterance_ids)})
    return True


async def closed(conn: AsyncConnection, run_id: UUID, call_id: str) -> bool:
    """Whether call.closed of this call was reached in a run."""
    found = await conn.execute(
        sa.text("SELECT 1 FROM ingest.call_runs WHERE run_id = :run_id AND call_id = :call_id"),
        {"run_id": run_id, "call_id": call_id},
    )
    return found.first() is not None


async def finish_runs(conn: AsyncConnection, run_id: UUID, states: Mapping[str, RunState]) -> set[str]:
    """Calls of a run reach analysed or unsupported_language; which of them were transcribed until now."""
    if not states:
        return set()
    result = await conn.execute(
        sa.text(
            "UPDATE ingest.call_runs AS r SET state = u.state, finished_at = clock_timestamp()"
            " FROM unnest(CAST(:ids AS text[]), CAST(:states AS text[])) AS u(call_id, state)"
            " WHERE r.call_id = u.call_id AND r.run_id = :run_id AND r.state = 'transcribed' RETURNING r.call_id"
        ),
        {"run_id": run_id, "ids": list(states), "states": list(states.values())},
    )
    return set(result.scalars())


async def give_up_run(conn: AsyncConnection, run_id: UUID, call_id: str, reason: str | None) -> None:
    """A transcribed call of a run that can never be analysed becomes dead_lettered, with the last reason; any other stays."""
    await conn.execute(
        sa.text(
            "UPDATE ingest.call_runs SET state = 'dead_lettered', reason = :reason, finished_at = clock_timestamp()"
            " WHERE call_id = :call_id AND run_id = :run_id AND state IN ('transcribed', 'dead_lettered')"
        ),
        {"call_id": call_id, "run_id": run_id, "reason": reason},
    )


async def reopen_runs(conn: AsyncConnection, run_id: UUID, ids: Iterable[str]) -> None:
    """Dead-lettered calls of a run whose dead letter is replayed are transcribed again: a replay alone leaves that state."""
    if not (wanted := sorted(set(ids))):
        return
    await conn.execute(
        sa.text(
            "UPDATE ingest.call_runs SET state = 'transcribed', reason = NULL, finished_at = NULL"
            " WHERE run_id = :run_id AND call_id = ANY(CAST(:ids AS text[])) AND state = 'dead_lettered'"
        ),
        {"run_id": run_id, "ids": wanted},
    )


def _call(r: sa.Row[tuple[object, ...]]) -> Call:
    values = dict(r._mapping)
    values["roles"] = tuple(values["roles"])
    values["received"] = tuple((int(a), int(b)) for a, b in values["received"])
    return Call(**values)
