"""What a stage is: the part of the seven steps (workers.loop) that differs between segmenter, transcriber, summarizer and reviewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from errors import Permanent
from store.dead_letters import DeadLetter
from store.ledger import LedgerKey, Verdict
from store.outbox import OutboxMessage
from stream.headers import trace_id_of
from stream.records import Record
from workers.deadline import Deadline

__all__ = ["Batch", "Stage", "Work", "dead_letter", "verdicts_of"]

P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records of one partition in offset order, all at or above the watermark."""

    key: LedgerKey
    records: Sequence[Record]


@dataclass(slots=True, kw_only=True)
class Work(Generic[P]):
    """What a stage made of a batch, still in memory. `plan` is the stage's own part, which only its `write` reads."""

    verdicts: dict[int, tuple[str, str | None]] = field(default_factory=dict)  # offset -> kind, reason
    dead_letters: list[DeadLetter] = field(default_factory=list)
    outbox: list[OutboxMessage] = field(default_factory=list)
    plan: P

    def bury(self, batch: Batch, record: Record, error: Permanent, subject_id: str | None = None) -> None:
        """Turn a record that can never succeed into a dead letter."""
        self.verdicts[record.offset] = ("dead_letter", error.reason)
        self.dead_letters.append(dead_letter(batch.key, record, error, subject_id))


class Stage(Protocol[P]):
    """One stage. `work` may be repeated after a failure; it changes nothing but its result and what is idempotent."""

    name: str
    topic: str
    run_id: UUID

    async def assigned(self, connection: AsyncConnection, keys: Sequence[LedgerKey]) -> None:
        """Load the state of these partitions; they are all that this process owns now."""
        ...

    async def work(self, batch: Batch, deadline: Deadline) -> Work[P]:
        """Steps 3 and 4: decode, validate, infer. Raises Transient when the batch should be tried again."""
        ...

    async def write(self, connection: AsyncConnection, batch: Batch, work: Work[P]) -> None:
        """Part of step 5, inside the transaction: rows and state; may still change `work`'s verdicts."""
        ...

    def committed(self, batch: Batch, work: Work[P]) -> None:
        """After step 5: what is in Postgres now is also true in memory."""
        ...


def dead_letter(key: LedgerKey, record: Record, error: Permanent, subject_id: str | None = None) -> DeadLetter:
    return DeadLetter(
        stage=key.stage,
        run_id=key.run_id,
        topic=key.topic,
        topic_id=key.topic_id,
        partition=key.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=record.headers,
        reason=error.reason,
        detail=error.detail,
        trace_id=trace_id_of(record),
        subject_id=subject_id,
    )


def verdicts_of(verdicts: Mapping[int, tuple[str, str | None]]) -> list[Verdict]:
    """Neighbouring offsets with the same verdict become one range."""
    ranges: list[Verdict] = []
    for offset in sorted(verdicts):
        kind, reason = verdicts[offset]
        last = ranges[-1] if ranges else None
        if last and last.last_offset == offset - 1 and (last.kind, last.reason) == (kind, reason):
            ranges[-1] = Verdict(first_offset=last.first_offset, last_offset=offset, kind=kind, reason=reason)
        else:
            ranges.append(Verdict(first_offset=offset, last_offset=offset, kind=kind, reason=reason))
    return ranges
