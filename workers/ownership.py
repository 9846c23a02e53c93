"""Which partitions this process owns, at which epoch and watermark. Postgres is the truth; Kafka's committed offset a hint."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Transient
from store import ledger
from store.ledger import LedgerKey, Position
from workers.metrics import LOST_OFFSETS, TRUNCATED_OFFSETS
from workers.postgres import connected
from workers.stage import Stage

__all__ = ["LogTruncated", "Owned", "Ownership", "check_end"]

log = structlog.get_logger()


class LogTruncated(Transient):
    """Kafka lost records that have their verdicts already, and would give their offsets to others.

    Those would look like what is done, and be dropped; and an offset cannot have two verdicts. So nothing is read until a
    person has decided; it passes as soon as the log is as long again.
    """


def check_end(key: LedgerKey, next_offset: int, log_end: int) -> None:
    """Raises LogTruncated where the log ends before the watermark."""
    missing = max(0, next_offset - log_end)
    TRUNCATED_OFFSETS.labels(stage=key.stage, partition=key.partition).set(missing)
    if missing:
        raise LogTruncated(
            f"{key.topic}/{key.partition} ends at offset {log_end}, but {missing} records behind it are done already: Kafka"
            ' has lost them; nothing is read until somebody decides, see "Kafka lost records" in docs/operations.md'
        )


class Owned:
    """One partition in this process's hands: its ledger row as last seen."""

    __slots__ = ("generation", "key", "position", "untried")

    def __init__(self, key: LedgerKey, position: Position, generation: int) -> None:
        self.key = key
        self.position = position
        self.generation = generation
        self.untried = True  # no batch was committed yet: what killed the former owner may lie right here


class Ownership:
    """The assignment as the ledger knows it. `generation` rises with every change, so that a batch knows it is stale."""

    def __init__(self, engine: AsyncEngine, stage: Stage[object]) -> None:
        self._engine = engine
        self._stage = stage
        self.generation = 0
        self.ready = False  # whether what Kafka assigned is owned
        self.partitions: dict[int, Owned] = {}
        # faust may seek for two assignments at once: epochs rise in the order of generations, or the last would be fenced.
        self._in_turn = asyncio.Lock()

    async def take_over(
        self, topic_id: UUID, log_starts: Mapping[int, int], log_ends: Callable[[], Awaitable[Mapping[int, int]]]
    ) -> dict[int, int]:
        """Fence the former owners of these partitions and load the stage's state.

        `log_starts` maps each assigned partition to its first offset. Returns the offset where each goes on. Raises
        Transient when Postgres is away, LogTruncated; a repeat is harmless, nothing is owned until it returns.
        """
        # Before the epoch rises: a batch in hand that it fences sees that it is this process's own doing.
        self._drop()
        generation = self.generation
        owned: dict[int, Owned] = {}
        async with self._in_turn, connected(self._engine) as connection:
            for partition in sorted(log_starts):
                key = LedgerKey(
                    stage=self._stage.name,
                    run_id=self._stage.run_id,
                    topic=self._stage.topic,
                    topic_id=topic_id,
                    partition=partition,
                )
                position = await ledger.acquire(connection, key, log_starts[partition])
                owned[partition] = Owned(key, position, generation)
            await self._stage.assigned(connection, [one.key for one in owned.values()])
            await connection.commit()
        ends = await log_ends()  # asked now: until the epoch rose a former owner went on
        for partition, one in owned.items():
            check_end(one.key, one.position.next_offset, ends.get(partition, one.position.next_offset))
            if one.position.lost:
                LOST_OFFSETS.labels(stage=self._stage.name).inc(one.position.lost[1] - one.position.lost[0] + 1)
                first, last = one.position.lost
                log.error("offsets.lost", topic=one.key.topic, partition=one.key.partition, first=first, last=last)
        if self.generation == generation:
            self.partitions, self.ready = owned, True
        return {partition: one.position.next_offset for partition, one in owned.items()}

    def stand_by(self) -> None:
        """Kafka has no partition for this worker: others have them all, and it takes over when one of them leaves."""
        self._drop()
        self.ready = True

    async def release(self) -> None:
        """Kafka takes the partitions from a worker that lives, or it stops cleanly: the records in hand are not suspect.

        What is in hand is stale at once. Raises Transient when Postgres is away.
        """
        former = self._drop()
        async with connected(self._engine) as connection:
            for one in former.values():
                if one.untried:
                    await ledger.clear_attempts(connection, one.position.ledger_id)
            await connection.commit()

    def _drop(self) -> dict[int, Owned]:
        former, self.partitions, self.ready = self.partitions, {}, False
        self.generation += 1
        self._stage.dropped()
        return former
