"""Dead letters: records that can never succeed, with the reason and, in schema pii, exactly as they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from store import wire
from store.unnest import Insert

__all__ = ["DeadLetter", "StoredDeadLetter", "dead_letter_id", "get", "in_order", "insert", "list", "mark_replayed"]

_NAMESPACE = uuid5(NAMESPACE_URL, "earful:dead-letter")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record given up. `subject_id`: the call or review; for the transcriber the utterance. `detail`: no payload."""

    stage: str
    run_id: UUID
    topic: str
    topic_id: UUID
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    reason: str
    detail: str
    trace_id: str | None = None
    subject_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDeadLetter:
    """A dead letter as the table has it. `payload`: whether that is stored; from `list` always False, nobody asked."""

    dead_letter_id: UUID
    letter: DeadLetter
    payload: bool
    failed_at: datetime
    replayed_at: datetime | None
    replayed_partition: int | None
    replayed_offset: int | None


def dead_letter_id(letter: DeadLetter) -> UUID:
    """The same record, given up in the same stage and run, is the same dead letter."""
    return uuid5(_NAMESPACE, f"{letter.stage}/{letter.run_id}/{letter.topic_id}/{letter.partition}/{letter.offset}")


_LETTERS = Insert(
    table="ingest.dead_letters",
    columns={
        "dead_letter_id": "uuid",
        "stage": "text",
        "run_id": "uuid",
        "topic": "text",
        "topic_id": "uuid",
        "partition": "int4",
        "offset": "int8",
        "reason": "text",
        "detail": "text",
        "subject_id": "text",
        "trace_id": "text",
    },
    key=("dead_letter_id",),
)
_PAYLOADS = Insert(
    table="pii.dead_letter_payloads",
    columns={"dead_letter_id": "uuid", "key": "bytea", "value": "bytea", "headers": "jsonb"},
    key=("dead_letter_id",),
)
_SELECT = (
    'SELECT d.dead_letter_id, d.stage, d.run_id, d.topic, d.topic_id, d.partition, d."offset", d.reason, d.detail,'
    " d.subject_id, d.trace_id, d.failed_at, d.replayed_at, d.replayed_partition, d.replayed_offset"
)

_WITHOUT_PAYLOAD = ", NULL::bytea AS key, NULL::bytea AS value, NULL::jsonb AS headers"


async def insert(conn: AsyncConnection, letters: Sequence[DeadLetter]) -> None:
    """Write dead letters; one that is there already stays as it is."""
    rows = [
        {
            "dead_letter_id": dead_letter_id(d),
            "stage": d.stage,
            "run_id": d.run_id,
            "topic": d.topic,
            "topic_id": d.topic_id,
            "partition": d.partition,
            "offset": d.offset,
            "reason": d.reason,
            "detail": d.detail,
            "subject_id": d.subject_id,
            "trace_id": d.trace_id,
            "key": d.key,
            "value": d.value,
            "headers": wire.dump(d.headers),
        }
        for d in letters
    ]
    await _LETTERS.run(conn, rows)
    await _PAYLOADS.run(conn, rows)


async def list(
    conn: AsyncConnection,
    *,
    stage: str | None = None,
    reason: str | None = None,
    limit: int = 100,
) -> tuple[StoredDeadLetter, ...]:
    """Dead letters without their payloads, the newest first; each filter that is None lets all through."""
    found = await conn.execute(
        sa.text(
            _SELECT + _WITHOUT_PAYLOAD + ", false AS payload"
            " FROM ingest.dead_letters d"
            " WHERE (CAST(:stage AS text) IS NULL OR d.stage = :stage)"
            " AND (CAST(:reason AS text) IS NULL OR d.reason = :reason)"
            " ORDER BY d.failed_at DESC, d.dead_letter_id LIMIT :limit"
        ),
        {"stage": stage, "reason": reason, "limit": limit},
    )
    return tuple(_stored(row) for row in found)


async def get(conn: AsyncConnection, dead_letter_id: UUID, *, lock: bool = False) -> StoredDeadLetter | None:
    """One dead letter with its payload. `lock` keeps others from replaying it until the transaction ends."""
    row = (
        await conn.execute(
            sa.text(
                _SELECT + ", p.key, p.value, p.headers, p.dead_letter_id IS NOT NULL AS payload"
                " FROM ingest.dead_letters d LEFT JOIN pii.dead_letter_payloads p USING (dead_letter_id)"
                " WHERE d.dead_letter_id = :id" + (" FOR UPDATE OF d" if lock else "")
            ),
            {"id": dead_letter_id},
        )
    ).first()
    return None if row is None else _stored(row)


async def in_order(conn: AsyncConnection, ids: Sequence[UUID]) -> tuple[StoredDeadLetter, ...]:
    """Those that are known, without key, value and headers, as their records lay in Kafka: a topic's, partition by partition.

    Offsets of a topic that was deleted come before those of the one that was made in its place.
    """
    found = await conn.execute(
        sa.text(
            _SELECT + _WITHOUT_PAYLOAD + ", p.dead_letter_id IS NOT NULL AS payload"
            " FROM ingest.dead_letters d LEFT JOIN pii.dead_letter_payloads p USING (dead_letter_id)"
            " LEFT JOIN ingest.topics t ON t.topic_id = d.topic_id"
            " WHERE d.dead_letter_id = ANY(CAST(:ids AS uuid[]))"
            ' ORDER BY d.topic, t.generation, d.partition, d."offset", d.dead_letter_id'
        ),
        {"ids": [*ids]},
    )
    return tuple(_stored(row) for row in found)


async def mark_replayed(conn: AsyncConnection, dead_letter_id: UUID, partition: int, offset: int) -> bool:
    """Note where the record was produced again; False if it was replayed before (a dead letter is replayed once)."""
    result = await conn.execute(
        sa.text(
            "UPDATE ingest.dead_letters SET replayed_at = clock_timestamp(), replayed_partition = :partition,"
            " replayed_offset = :offset WHERE dead_letter_id = :id AND replayed_at IS NULL"
        ),
        {"id": dead_letter_id, "partition": partition, "offset": offset},
    )
    return result.rowcount == 1


def _stored(r: sa.Row[tuple[object, ...]]) -> StoredDeadLetter:
    return StoredDeadLetter(
        dead_letter_id=r.dead_letter_id,
        letter=DeadLetter(
            stage=r.stage,
            run_id=r.run_id,
            topic=r.topic,
            topic_id=r.topic_id,
            partition=r.partition,
            offset=r.offset,
            key=None if r.key is None else bytes(r.key),
            value=None if r.value is None else bytes(r.value),
            headers=wire.load(r.headers or ()),
            reason=r.reason,
            detail=r.detail,
            trace_id=r.trace_id,
            subject_id=r.subject_id,
        ),
        payload=r.payload,
        failed_at=r.failed_at,
        replayed_at=r.replayed_at,
        replayed_partition=r.replayed_partition,
        replayed_offset=r.replayed_offset,
    )
