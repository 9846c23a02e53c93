"""What a stage is: the part of the seven steps (workers.loop) in which segmenter, transcriber, summarizer and reviewer differ."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, cast
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from errors import Permanent
from store.dead_letters import DeadLetter
from store.ledger import LedgerKey, VerdictKind
from store.outbox import OutboxMessage
from stream.records import Record
from workers.dead_letter import dead_letter
from workers.deadline import Deadline

__all__ = ["Batch", "Stage", "Stateless", "Work"]

P = TypeVar("P")
A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records of one partition in offset order, all at or above the watermark.

    `answers` is what models said in an earlier try of these records: a batch that is tried again asks only for the rest.
    """

    key: LedgerKey
    records: Sequence[Record]
    answers: dict[Hashable, object] = field(default_factory=dict, repr=False, compare=False)

    async def ask_once(self, name: Hashable, ask: Callable[[], Awaitable[A]]) -> A:
        """What `ask` says, or said in an earlier try. An error is not kept."""
        if name not in self.answers:
            self.answers[name] = await ask()
        return cast(A, self.answers[name])

    def only(self, record: Record) -> Batch:
        """One of the records by itself, with what is known already."""
        return Batch(key=self.key, records=[record], answers=self.answers)

    def without(self, offsets: Collection[int]) -> Batch | None:
        """The other records, with what is known already; None without any."""
        if not offsets:
            return self
        rest = [record for record in self.records if record.offset not in offsets]
        return Batch(key=self.key, records=rest, answers=self.answers) if rest else None


@dataclass(slots=True, kw_only=True)
class Work(Generic[P]):
    """What a stage made of a batch, still in memory. `plan` is the stage's own part, which only its `write` reads."""

    plan: P
    verdicts: dict[int, tuple[VerdictKind, str | None]] = field(default_factory=dict)  # offset -> kind, reason
    dead_letters: list[DeadLetter] = field(default_factory=list)
    outbox: list[OutboxMessage] = field(default_factory=list)

    def bury(self, batch: Batch, record: Record, error: Permanent) -> None:
        """Turn a record that can never succeed into a dead letter."""
        self.verdicts[record.offset] = ("dead_letter", error.reason)
        self.dead_letters.append(dead_letter(batch.key, record, error))


class Stage(Protocol[P]):
    """One stage. `work` may be repeated after a failure; it changes nothing but its result and what is idempotent."""

    name: str
    topic: str
    run_id: UUID

    async def assigned(self, connection: AsyncConnection, keys: Sequence[LedgerKey]) -> None:
        """Load the state of these partitions; they are all that this process owns now."""
        ...

    def dropped(self) -> None:
        """Forget it: this process owns none until it is assigned some. Work that is in hand may still come to its end."""
        ...

    def portion(self, partition: int, records: Sequence[Record]) -> int:
        """How many of these, from the first on, to take at once: what they need in memory is bounded. At least one."""
        ...

    async def work(self, batch: Batch, deadline: Deadline) -> Work[P]:
        """Steps 3 and 4: decode, validate, infer. Raises Transient when the batch should be tried again."""
        ...

    async def write(self, connection: AsyncConnection, batch: Batch, work: Work[P]) -> None:
        """Part of step 5, inside the transaction: rows and state; may still settle `work`'s verdicts."""
        ...

    def nothing(self) -> P:
        """The plan of a batch of which nothing is kept: its records become dead letters."""
        ...

    def committed(self, batch: Batch, work: Work[P]) -> None:
        """After step 5: what is in Postgres now is also true in memory."""
        ...


class Stateless:
    """For stages that keep nothing between batches."""

    async def assigned(self, connection: AsyncConnection, keys: Sequence[LedgerKey]) -> None:
        """There is no state to load."""

    def dropped(self) -> None:
        """There is no state to forget."""

    def portion(self, partition: int, records: Sequence[Record]) -> int:
        """All: what is taken from Kafka at once is bounded."""
        return len(records)

    def committed(self, batch: Batch, work: Work[Any]) -> None:
        """There is no state to follow the database."""
