"""The seven steps without Kafka: a real Postgres, events from a list, and a stage that only notes what it saw."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid5

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.ledger import LedgerKey
from stream.events import Topics
from workers.deadline import Deadline
from workers.loop import Loop
from workers.ownership import Ownership
from workers.stage import Batch, Work
from workers.together import together

__all__ = ["Log", "Owner", "Probe", "ask", "make_table", "seen"]

RUN = uuid5(UUID(int=0), "run")
TOPIC_ID = uuid5(UUID(int=0), "topic")


def make_table(url: str) -> None:
    """Where the stage writes: no key, so that a repeat shows."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE seen (partition int, n bigint)")


@dataclass(slots=True)
class Log:
    """A partition of a topic: which offsets it has."""

    offsets: Sequence[int]

    async def first_from(self, partition: int, offset: int) -> int:
        return min(one for one in self.offsets if one >= offset)


async def no_wait(batch: Batch) -> None:
    pass


@dataclass(slots=True)
class Probe:
    """A stage that writes one row a record; `fail` may raise instead, `forget` leaves an offset without a verdict."""

    topic: str
    fail: Callable[[Batch], None] = lambda batch: None
    wait: Callable[[Batch], Awaitable[None]] = no_wait  # before anything else of its work
    forget: frozenset[int] = frozenset()
    most: int = 1_000  # records taken at once
    waits: dict[int, asyncio.Event] = field(default_factory=dict)  # for what a partition's work waits, and how long
    patience: float = 0.5
    in_vain: list[int] = field(default_factory=list)  # partitions
    begun: dict[int, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    done: dict[int, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    batches: list[list[int]] = field(default_factory=list)
    assignments: list[list[int]] = field(default_factory=list)
    name: str = "reviewer"
    run_id: UUID = RUN

    async def assigned(self, connection: AsyncConnection, keys: Sequence[LedgerKey]) -> None:
        self.assignments.append([key.partition for key in keys])

    def dropped(self) -> None:
        pass

    def portion(self, partition: int, records: Sequence[Any]) -> int:
        return min(len(records), self.most)

    async def work(self, batch: Batch, deadline: Deadline) -> Work[None]:
        self.batches.append([record.offset for record in batch.records])
        await self.wait(batch)
        self.begun[batch.key.partition].set()
        if event := self.waits.get(batch.key.partition):
            try:
                async with asyncio.timeout(self.patience):
                    await event.wait()
            except TimeoutError:
                self.in_vain.append(batch.key.partition)
        self.fail(batch)
        work: Work[None] = Work(plan=None)
        work.verdicts = {one.offset: ("result", None) for one in batch.records if one.offset not in self.forget}
        return work

    async def write(self, connection: AsyncConnection, batch: Batch, work: Work[None]) -> None:
        done = [offset for offset, (kind, _) in work.verdicts.items() if kind == "result"]
        await connection.execute(
            text("INSERT INTO seen SELECT :partition, unnest(CAST(:offsets AS bigint[]))"),
            {"partition": batch.key.partition, "offsets": done},
        )

    def committed(self, batch: Batch, work: Work[None]) -> None:
        self.done[batch.key.partition].set()

    def nothing(self) -> None:
        pass


class Owner:
    """One worker process's part: an ownership and a loop, fed by hand. `acked`: (partition, offset) in order."""

    def __init__(
        self,
        engine: AsyncEngine,
        log: Log,
        *,
        on_step: Callable[[str], None] = lambda step: None,
        on_ack: Callable[[int], None] = lambda offset: None,
        deadline_seconds: float = 5,
        jitter: Callable[[], float] = lambda: -0.9,  # pauses of a twentieth
    ) -> None:
        topics = Topics("rig.")
        self.stage = Probe(topics.reviews_submitted)
        self.acked: list[tuple[int, int]] = []
        self.generation = 0
        self.healthy = True  # whether the dependencies are
        self._on_ack = on_ack
        self.log = log
        self.ownership = Ownership(engine, self.stage)  # type: ignore[arg-type]
        self.loop = Loop(
            stage=self.stage,
            engine=engine,
            ownership=self.ownership,
            topics=topics,
            first_offset_from=log.first_from,
            batch_deadline_seconds=deadline_seconds,
            may_write=self._may_write,
            healthy=self._healthy,
            on_step=on_step,
            jitter=jitter,
        )

    async def _may_write(self) -> None:
        pass

    async def _healthy(self) -> bool:
        return self.healthy

    async def own(self, partitions: Sequence[int] = (0,), log_start: int = 0) -> dict[int, int]:
        """A new assignment. Returns where each partition goes on."""
        self.generation += 1
        return await self.ownership.take_over(TOPIC_ID, dict.fromkeys(partitions, log_start), self._log_ends)

    async def _log_ends(self) -> dict[int, int]:
        return dict.fromkeys(range(10), max(self.log.offsets) + 1)

    async def take(self, offsets: Sequence[int], *, partition: int = 0, generation: int | None = None) -> None:
        """Hand over a batch of one partition."""
        taken = self.generation if generation is None else generation
        await self.loop.take([self._event(partition, offset, taken) for offset in offsets], self.generation)

    async def take_side_by_side(self, batches: Mapping[int, Sequence[int]]) -> None:
        """Hand over a batch of each of these partitions at the same moment."""
        await together(self.take(offsets, partition=partition) for partition, offsets in batches.items())

    def _event(self, partition: int, offset: int, generation: int) -> Any:
        message = SimpleNamespace(
            topic=self.stage.topic,
            partition=partition,
            offset=offset,
            timestamp=0.0,
            key=b"k",
            value=b"v",
            headers=(),
            generation_id=generation,
        )

        def ack() -> None:
            self._on_ack(offset)
            self.acked.append((partition, offset))

        return SimpleNamespace(message=message, ack=ack)


def like(owner: Owner, **other: Any) -> Any:
    """The owner's stage, but for these methods."""
    names = ("name", "portion", "work", "write", "nothing", "committed")
    return SimpleNamespace(**{name: getattr(owner.stage, name) for name in names} | other)


def ask(url: str, sql: str) -> list[tuple[int, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(sql).fetchall()  # type: ignore[arg-type]


def seen(url: str) -> list[int]:
    """Every record that the stage wrote, as often as it did."""
    return [n for (n,) in ask(url, "SELECT n FROM seen ORDER BY partition, n")]
