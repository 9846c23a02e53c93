"""The seven steps that every stage runs, so that each accepted record gets exactly one verdict.

1. take a partition's batch, one at a time; those of other partitions run beside it (workers.lanes)
2. drop what the assignment or the ledger no longer wants
3. decode and validate; what can never succeed becomes a dead letter, in memory
4. infer, under one deadline; what may succeed later is tried again
5. one Postgres transaction: watermark, results, verdicts, dead letters, stage state, outbox
6. acknowledge the whole batch, in offset order
7. faust commits when it likes

A crash between any two of them is harmless: the ledger decides where the next owner goes on, and 5 is atomic.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Generic, TypeVar

import structlog
from faust.types import EventT
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import EarfulError, Permanent, Transient, Undelivered
from store import dead_letters, ledger, outbox
from stream.padding import is_pad
from stream.records import Record
from stream.topics import Topics
from workers.dead_letter import for_topic
from workers.deadline import Deadline
from workers.intake import pairs_of
from workers.kafka import ProducerBroken
from workers.limit import check_limit
from workers.metrics import BATCH_RETRIES, BATCH_SECONDS, RECORDS
from workers.ownership import Owned, Ownership
from workers.postgres import connected
from workers.stage import Batch, Stage, Work
from workers.unpacking import why_unread

__all__ = ["CommitUnknown", "Fenced", "Loop", "OffsetsBroken"]

P = TypeVar("P")
log = structlog.get_logger()

#: Pauses between tries of a batch, seconds: doubling with full jitter, bounded so that recovery is noticed soon.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0

#: After so many deaths or failures beside healthy dependencies a batch goes record by record; after so many more of a
#: single record it is a dead letter. Deaths are counted only where a former owner may have died: a clean stop clears them.
SUSPECT_AFTER, GIVE_UP_AFTER = 3, 5
#: After so many tries in a row that a healthy broker does not take another producer is due: some 20 s of pauses.
REFUSED_AFTER = 8


#: Batches side by side, at most; whoever holds all places is alone.
PLACES = 64


class Fenced(EarfulError):
    """Another process owns this partition although Kafka still assigns it here: leave, so that the next start asks again."""


class CommitUnknown(EarfulError):
    """Postgres may or may not have committed: leave; whoever owns the partition next reads the ledger."""


class Suspect(Exception):
    """Workers died with these records in hand: they go alone, when the batches in hand are done."""


class OffsetsBroken(EarfulError):
    """Records between the watermark and this batch exist in Kafka but were not delivered: leave and read them again."""


class Loop(Generic[P]):
    """Runs a stage over batches of faust events, one of a partition at a time (step 1)."""

    def __init__(
        self,
        *,
        stage: Stage[P],
        engine: AsyncEngine,
        ownership: Ownership,
        topics: Topics,
        first_offset_from: Callable[[int, int], Awaitable[int]],
        batch_deadline_seconds: float,
        may_write: Callable[[], Awaitable[None]],
        healthy: Callable[[], Awaitable[bool]],
        dead_letters_in_a_row: int = 10_000,
        on_step: Callable[[str], None] = lambda step: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._stage = stage
        self._engine = engine
        self._ownership = ownership
        self._topics = topics
        self._first_offset_from = first_offset_from
        self._batch_deadline_seconds = batch_deadline_seconds
        self._may_write = may_write
        self._healthy = healthy
        self._dead_letters_in_a_row = dead_letters_in_a_row
        self._on_step = on_step
        self._jitter = jitter
        self._places = asyncio.Semaphore(PLACES)
        self._in_turn = asyncio.Lock()
        self.tries = 0  # rises with each try of a batch: for the watchdog a loop that tries is not stuck
        self.at_work: dict[int, int] = {}  # partition with a batch in hand -> the number of its last try

    async def take(self, events: Sequence[EventT[Any]], app_generation: int) -> None:
        """Steps 1 to 6 for a batch of one partition. Returns normally only when every event is acknowledged or rightly dropped.

        Partitions share nothing, so their batches may run side by side. Only what former owners died on goes alone, or a
        death would count against its neighbours, too.
        """
        mine = [event for event in events if event.message.generation_id == app_generation]
        self._on_step("1:taken")
        # Looked up before it waits for a place: what is assigned afterwards may be another topic's partition of this number.
        owned = self._ownership.partitions.get(mine[0].message.partition) if mine else None
        if owned is None:
            return
        with BATCH_SECONDS.labels(stage=self._stage.name).time():
            try:
                async with self._places:
                    await self._partition(owned, mine, alone=False)
            except Suspect:
                async with self._all_places():
                    await self._partition(owned, mine, alone=True)

    @asynccontextmanager
    async def _all_places(self) -> AsyncIterator[None]:
        """Waits for every batch in hand, and holds back the next."""
        async with self._in_turn, AsyncExitStack() as held:
            for _ in range(PLACES):
                await held.enter_async_context(self._places)
            yield

    async def _partition(self, owned: Owned, events: Sequence[EventT[Any]], *, alone: bool) -> None:
        """Steps 2 to 6. Raises Suspect for what should go alone and does not."""
        partition = owned.key.partition
        records = [record_of(event) for event in events]
        fresh = [record for record in records if record.offset >= owned.position.next_offset]
        self._on_step("2:dropped")
        try:
            while fresh:
                count = self._stage.portion(partition, fresh)
                if not await self._until_committed(owned, Batch(key=owned.key, records=fresh[:count]), alone):
                    return
                fresh = fresh[count:]
        finally:
            self.at_work.pop(partition, None)
        self._on_step("5:committed")
        for event in events:
            event.ack()
        self._on_step("6:acknowledged")

    async def _check_gaps(self, owned: Owned, records: Sequence[Record]) -> None:
        """A hole in the offsets is fine when Kafka has it too (transaction markers). Raises OffsetsBroken or Trimmed."""
        expected = owned.position.next_offset
        for record in records:
            if record.offset != expected:
                found = await self._first_offset_from(owned.key.partition, expected)
                if found != record.offset:
                    raise OffsetsBroken(f"expected offset {expected}, got {record.offset}, Kafka has {found}")
            expected = record.offset + 1

    async def _until_committed(self, owned: Owned, batch: Batch, alone: bool) -> bool:
        """Steps 3 to 5, again and again while a dependency is away. False: the partition went to somebody else.

        Raises Suspect for what should go `alone` and does not.
        """
        pause, tries, refused, whole = FIRST_PAUSE, 0, 0, False
        deaths: int | None = None  # how many workers died with the first record in hand
        while self._ownership.generation == owned.generation:
            self.tries += 1
            self.at_work[batch.key.partition] = self.tries
            working = False
            try:
                if not whole:
                    await self._check_gaps(owned, batch.records)
                    whole = True
                await self._may_write()
                if len(batch.records) > 1 and (alone or tries >= SUSPECT_AFTER):
                    return await self._one_at_a_time(owned, batch, alone)
                if deaths is None:  # counted once in a worker's life: a try that failed is no death
                    deaths = await self._deaths_at(owned, batch.records[0].offset, alone) if owned.untried else 0
                if deaths >= SUSPECT_AFTER and not alone:
                    raise Suspect
                if len(batch.records) == 1 and (why := await self._hopeless(deaths, tries)):
                    return await self._commit(owned, batch, self._buried(batch, why))
                working = True
                work = await self._work(batch)
                working = False
                self._on_step("4:inferred")
                return await self._commit(owned, batch, work)
            except Transient as err:
                BATCH_RETRIES.labels(stage=self._stage.name).inc()
                log.warning(
                    "batch.retry",
                    stage=batch.key.stage,
                    partition=batch.key.partition,
                    offset=batch.records[0].offset,
                    why=str(err),
                    pause_seconds=round(pause, 1),
                )
                await asyncio.sleep(pause * (0.5 + self._jitter() / 2))
                pause = min(LONGEST_PAUSE, pause * 2)
                # Only work that fails beside healthy dependencies speaks against the records: not a full outbox, a lock,
                # or a broker that answers but takes nothing. That speaks against the producer.
                if isinstance(err, Undelivered):
                    refused = refused + 1 if await self._healthy() else 0
                    if refused >= REFUSED_AFTER:
                        raise ProducerBroken(f"{refused} times, beside a healthy broker: {err}") from err
                    continue
                refused = 0
                if working:
                    tries = tries + 1 if await self._healthy() else 0
        return False

    async def _work(self, batch: Batch) -> Work[P]:
        """Steps 3 and 4; whatever they wait for, they end with the deadline. What only fills a place, or nobody could read,
        is no stage's work."""
        pads = {record.offset for record in batch.records if is_pad(record)}
        unread = [(record, why) for record in batch.records if (why := why_unread(record))]
        work: Work[P] = Work(plan=self._stage.nothing())
        if rest := batch.without(pads.union(record.offset for record, _ in unread)):
            try:
                async with asyncio.timeout(self._batch_deadline_seconds):
                    work = await self._stage.work(rest, Deadline.after(self._batch_deadline_seconds))
            except TimeoutError as err:
                raise Transient("the batch's deadline has passed; it will be tried again") from err
        work.verdicts |= dict.fromkeys(pads, ("control", None))
        for record, why in unread:
            work.bury(batch, record, why)
        return work

    async def _one_at_a_time(self, owned: Owned, batch: Batch, alone: bool) -> bool:
        log.warning("batch.suspect", stage=batch.key.stage, partition=batch.key.partition, records=len(batch.records))
        for record in batch.records:
            owned.untried = alone  # each is counted before it is tried
            if not await self._until_committed(owned, batch.only(record), alone):
                return False
        return True

    async def _deaths_at(self, owned: Owned, offset: int, alone: bool) -> int:
        """How many workers died with this record in hand; this try is counted first, committed before anything is decoded.

        Beyond suspicion only a try alone counts: nothing else was in that worker's hands when it died.
        """
        async with connected(self._engine) as connection:
            before = (await ledger.attempts(connection, owned.position.ledger_id)).get(offset, 0)
            if alone or before < SUSPECT_AFTER:
                await ledger.add_attempt(connection, owned.position.ledger_id, offset)
                await connection.commit()
        return before

    async def _hopeless(self, deaths: int, tries: int) -> Permanent | None:
        """Whether a single record was tried often enough, while everything it needs was fine."""
        if max(deaths, tries) < GIVE_UP_AFTER or not await self._healthy():
            return None
        if deaths >= GIVE_UP_AFTER:
            return Permanent("kills_worker", f"{deaths} workers died with it in hand, the last ones with it alone")
        return Permanent("too_slow", f"{tries} tries alone did not end in time or failed, while everything else worked")

    def _buried(self, batch: Batch, why: Permanent) -> Work[P]:
        work: Work[P] = Work(plan=self._stage.nothing())
        for record in batch.records:
            work.bury(batch, record, why)
        return work

    async def _commit(self, owned: Owned, batch: Batch, work: Work[P]) -> bool:
        """Step 5. False when fenced by a newer assignment of this very process or of another one."""
        new_offset = batch.records[-1].offset + 1
        async with connected(self._engine) as connection:
            if not await ledger.advance(connection, owned.position, new_offset):
                await connection.rollback()
                if self._ownership.generation != owned.generation:
                    return False
                raise Fenced(f"{batch.key.topic}/{batch.key.partition} at {owned.position.next_offset}")
            self._on_step("5:advanced")
            await self._stage.write(connection, batch, work)
            if set(work.verdicts) != {record.offset for record in batch.records}:
                raise AssertionError(f"{self._stage.name}: not every record of the batch has a verdict")
            single = ((offset, kind, reason) for offset, (kind, reason) in work.verdicts.items())
            await ledger.record_verdicts(connection, owned.position.ledger_id, ledger.ranges(single))
            await check_limit(connection, owned.position, batch, work, self._dead_letters_in_a_row)
            await dead_letters.insert(connection, work.dead_letters)
            buried = [for_topic(letter, self._topics) for letter in work.dead_letters]
            if owned.untried:
                await ledger.clear_attempts(connection, owned.position.ledger_id)
            await outbox.put(connection, [*work.outbox, *buried])
            self._on_step("5:written")
            await commit(connection)
        owned.position = owned.position.moved(new_offset)
        owned.untried = False
        self._stage.committed(batch, work)
        self._count(work.verdicts)
        return True

    def _count(self, verdicts: Mapping[int, tuple[str, str | None]]) -> None:
        for kind, _reason in verdicts.values():
            RECORDS.labels(stage=self._stage.name, verdict=kind).inc()


async def commit(connection: AsyncConnection) -> None:
    """COMMIT; a failure here has an unknown outcome, whatever its type."""
    try:
        await connection.commit()
    except (DBAPIError, OSError) as err:
        raise CommitUnknown(f"COMMIT was sent, its answer is missing ({type(err).__name__})") from err


def record_of(event: EventT[Any]) -> Record:
    message = event.message
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=int((message.timestamp or 0) * 1000),
        key=message.key,
        value=message.value,
        # A header without a value and one of no bytes are the same to us.
        headers=tuple((name, bytes(value or b"")) for name, value in pairs_of(message)),
    )
