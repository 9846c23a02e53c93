"""The ledger: how far each partition is done, who may say so, and what became of each offset.

A stage's step 5 is one transaction that begins with `advance`. `acquire` raises the epoch, so that a worker which
lost its partition and does not know it yet can write nothing more: its `advance` finds no row and answers False.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from store.unnest import Insert

__all__ = [
    "LedgerKey",
    "Position",
    "Verdict",
    "VerdictKind",
    "acquire",
    "add_attempt",
    "advance",
    "attempts",
    "buried_in_a_row",
    "clear_attempts",
    "ranges",
    "record_verdicts",
    "rows",
]

VerdictKind = Literal["result", "consumed", "control", "duplicate", "late", "superseded", "other_run", "dead_letter"]
_KINDS = frozenset(get_args(VerdictKind))


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerKey:
    """One partition of one stage in one run; `topic_id` tells a recreated topic from the old one."""

    stage: str
    run_id: UUID
    topic: str
    topic_id: UUID
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What `acquire` hands out: where to go on, and the right to.

    `lost` is the first and last offset, inclusive, that Kafka dropped before they were read: raise an alert.
    """

    ledger_id: int
    next_offset: int
    epoch: int
    lost: tuple[int, int] | None = None

    def moved(self, new_offset: int) -> Position:
        """The position after a committed `advance` to new_offset."""
        return replace(self, next_offset=new_offset, lost=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the offsets first_offset..last_offset, inclusive."""

    first_offset: int
    last_offset: int
    kind: VerdictKind
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"unknown verdict {self.kind!r}")
        if not 0 <= self.first_offset <= self.last_offset:
            raise ValueError(f"no range of offsets: {self.first_offset}..{self.last_offset}")


_TOPIC = sa.text(
    "INSERT INTO ingest.topics AS t (topic_id, topic) VALUES (:topic_id, :topic)"
    " ON CONFLICT (topic_id) DO UPDATE SET topic = excluded.topic WHERE t.topic IS NULL"
)
_SEEN = sa.text("SELECT 1 FROM ingest.topics WHERE topic_id = :topic_id AND topic IS NOT NULL")
_ACQUIRE = sa.text(
    "INSERT INTO ingest.ledger AS l (stage, run_id, topic, topic_id, partition, next_offset, epoch)"
    " VALUES (:stage, :run_id, :topic, :topic_id, :partition, :log_start, 1)"
    " ON CONFLICT (stage, run_id, topic_id, partition)"
    " DO UPDATE SET epoch = l.epoch + 1, updated_at = now() RETURNING ledger_id, next_offset, epoch"
)
# Of the topics that had this name before: who works for one of them still writes nothing more.
_FENCE = sa.text(
    "UPDATE ingest.ledger SET epoch = epoch + 1, updated_at = now() WHERE stage = :stage AND run_id = :run_id"
    " AND topic = :topic AND topic_id <> :topic_id AND partition = :partition"
)
_LOST = sa.text(
    "INSERT INTO ingest.lost_ranges (ledger_id, first_offset, last_offset) VALUES (:ledger_id, :first, :last)"
)
_SKIP = sa.text("UPDATE ingest.ledger SET next_offset = :log_start WHERE ledger_id = :ledger_id")
_ADVANCE = sa.text(
    "UPDATE ingest.ledger SET next_offset = :new, updated_at = now()"
    " WHERE ledger_id = :ledger_id AND next_offset = :old AND epoch = :epoch"
)


async def acquire(conn: AsyncConnection, key: LedgerKey, log_start: int) -> Position:
    """Take a partition on assignment: the epoch rises, whoever had it before is fenced.

    `log_start` is the first offset Kafka still has. A new partition begins there; if it lies after the watermark,
    the offsets between are recorded in ingest.lost_ranges and skipped.
    """
    names = {"topic_id": key.topic_id, "topic": key.topic}
    if (await conn.execute(_SEEN, names)).first() is None:  # an upsert each time would burn a generation
        await conn.execute(_TOPIC, names)
    place = {**names, "stage": key.stage, "run_id": key.run_id, "partition": key.partition}
    row = (await conn.execute(_ACQUIRE, {**place, "log_start": log_start})).one()
    if row.epoch == 1:
        await conn.execute(_FENCE, place)
    if log_start <= row.next_offset:
        return Position(ledger_id=row.ledger_id, next_offset=row.next_offset, epoch=row.epoch)
    lost = (int(row.next_offset), log_start - 1)
    await conn.execute(_LOST, {"ledger_id": row.ledger_id, "first": lost[0], "last": lost[1]})
    await conn.execute(_SKIP, {"ledger_id": row.ledger_id, "log_start": log_start})
    return Position(ledger_id=row.ledger_id, next_offset=log_start, epoch=row.epoch, lost=lost)


async def advance(conn: AsyncConnection, position: Position, new_offset: int) -> bool:
    """Move the watermark to new_offset, the first offset not done; False: fenced, roll back and drop the batch.

    Begin step 5 with it. The same offset again only asks whether the partition is still ours.
    """
    if new_offset < position.next_offset:
        raise ValueError(f"the watermark never moves back: {position.next_offset} to {new_offset}")
    result = await conn.execute(
        _ADVANCE,
        {
            "ledger_id": position.ledger_id,
            "old": position.next_offset,
            "new": new_offset,
            "epoch": position.epoch,
        },
    )
    return result.rowcount == 1


_VERDICTS = Insert(
    table="ingest.verdicts",
    columns={"ledger_id": "int8", "first_offset": "int8", "last_offset": "int8", "kind": "text", "reason": "text"},
    key=("ledger_id", "first_offset"),
    conflict=None,  # an offset that gets a second verdict is a bug, and the exclusion constraint says so
)


async def record_verdicts(conn: AsyncConnection, ledger_id: int, verdicts: Sequence[Verdict]) -> None:
    """Write verdicts; once written they stay.

    Raises sqlalchemy.exc.IntegrityError if one overlaps another, in the batch or in the table.
    """
    if not verdicts:
        return
    await conn.execute(
        _VERDICTS.statement,  # not run(): of a key that comes twice it would keep one
        {
            "ledger_id": [ledger_id] * len(verdicts),
            "first_offset": [v.first_offset for v in verdicts],
            "last_offset": [v.last_offset for v in verdicts],
            "kind": [v.kind for v in verdicts],
            "reason": [v.reason for v in verdicts],
        },
    )


async def buried_in_a_row(conn: AsyncConnection, ledger_id: int) -> int:
    """How many dead letters a partition ends with just now."""
    found = await conn.execute(
        sa.text(
            "SELECT coalesce(sum(last_offset - first_offset + 1), 0) FROM ingest.verdicts WHERE ledger_id = :id"
            " AND first_offset > coalesce((SELECT last_offset FROM ingest.verdicts WHERE ledger_id = :id"
            " AND kind <> 'dead_letter' ORDER BY first_offset DESC LIMIT 1), -1)"
        ),
        {"id": ledger_id},
    )
    return int(found.scalar_one())


def ranges(single: Iterable[tuple[int, VerdictKind, str | None]]) -> list[Verdict]:
    """Verdicts of single offsets, joined where neighbours agree."""
    out: list[Verdict] = []
    for offset, kind, reason in sorted(single, key=lambda s: s[0]):
        if out and out[-1].last_offset == offset - 1 and (out[-1].kind, out[-1].reason) == (kind, reason):
            out[-1] = replace(out[-1], last_offset=offset)
        else:
            out.append(Verdict(first_offset=offset, last_offset=offset, kind=kind, reason=reason))
    return out


async def add_attempt(conn: AsyncConnection, ledger_id: int, offset: int) -> None:
    """Count an attempt at a record taken by itself. Commit before decoding."""
    await conn.execute(
        sa.text(
            'INSERT INTO ingest.attempts AS a (ledger_id, "offset", attempts) VALUES (:ledger_id, :offset, 1)'
            ' ON CONFLICT (ledger_id, "offset") DO UPDATE SET attempts = a.attempts + 1, last_at = now()'
        ),
        {"ledger_id": ledger_id, "offset": offset},
    )


async def clear_attempts(conn: AsyncConnection, ledger_id: int) -> None:
    """Forget all attempts of a partition: a clean revoke, or the records are done."""
    await conn.execute(sa.text("DELETE FROM ingest.attempts WHERE ledger_id = :id"), {"id": ledger_id})


async def attempts(conn: AsyncConnection, ledger_id: int) -> dict[int, int]:
    """Attempts so far by offset."""
    found = await conn.execute(
        sa.text('SELECT "offset", attempts FROM ingest.attempts WHERE ledger_id = :id'), {"id": ledger_id}
    )
    return {int(row[0]): int(row[1]) for row in found}


async def rows(conn: AsyncConnection) -> list[tuple[LedgerKey, int]]:
    """Each partition's first offset that is not done, by stage, run, topic and partition."""
    found = await conn.execute(
        sa.text(
            "SELECT stage, run_id, topic, topic_id, partition, next_offset FROM ingest.ledger"
            " ORDER BY stage, run_id, topic, topic_id, partition"
        )
    )
    return [
        (
            LedgerKey(stage=r.stage, run_id=r.run_id, topic=r.topic, topic_id=r.topic_id, partition=r.partition),
            r.next_offset,
        )
        for r in found
    ]
