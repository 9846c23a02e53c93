"""What speaks against a record, and what does not: only its own failures bury it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Transient, Undelivered
from store.engine import create
from tests.workers.histories import Died
from tests.workers.rig import TOPIC_ID, Log, Owner, ask, like, make_table, seen
from workers.kafka import ProducerBroken
from workers.loop import REFUSED_AFTER, OffsetsBroken
from workers.ownership import Ownership
from workers.stage import Batch

LOG = Log(range(100))


def verdicts(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(
            "SELECT first_offset, last_offset, kind, reason FROM ingest.verdicts ORDER BY 1"
        ).fetchall()


@pytest.fixture(autouse=True)
def _table(database: str) -> None:
    make_table(database)


def watermark_or_none(url: str) -> int | None:
    found = ask(url, "SELECT next_offset FROM ingest.ledger")
    return found[0][0] if found else None


async def test_an_outage_speaks_against_no_record(engine: AsyncEngine, database: str) -> None:
    """Triton away right at the start of a worker, for more tries than a record that kills gets."""
    owner = Owner(engine, LOG)
    await owner.own()
    owner.healthy = False

    def fail(batch: Batch) -> None:
        owner.healthy = len(owner.stage.batches) == 9
        if not owner.healthy:
            raise Transient("Triton is away")

    owner.stage.fail = fail
    await owner.take([0, 1])
    assert owner.stage.batches == [[0, 1]] * 9
    assert verdicts(database) == [(0, 1, "result", None)]


async def killed(engine: AsyncEngine, fails: Callable[[Batch], bool]) -> list[list[int]]:
    """A worker that takes offsets 0 to 2 and dies in a batch where `fails` says so. Returns the batches it tried."""
    owner = Owner(engine, LOG)

    def fail(batch: Batch) -> None:
        if fails(batch):
            raise Died

    owner.stage.fail = fail
    begin = (await owner.own())[0]
    with contextlib.suppress(Died):
        await owner.take(range(begin, 3))
    return owner.stage.batches


async def test_deaths_that_are_no_records_fault_bury_nothing(engine: AsyncEngine, database: str) -> None:
    """After four kills each record is tried alone before anything is decided about it."""
    for _ in range(4):
        await killed(engine, lambda batch: True)
    assert await killed(engine, lambda batch: False) == [[0], [1], [2]]
    assert verdicts(database) == [(0, 0, "result", None), (1, 1, "result", None), (2, 2, "result", None)]


async def test_a_record_that_kills_is_found_and_buried_alone(engine: AsyncEngine, database: str) -> None:
    lives = 0
    while watermark_or_none(database) != 3:
        await killed(engine, lambda batch: 1 in [record.offset for record in batch.records])
        lives += 1
        assert lives < 15
    assert verdicts(database) == [(0, 0, "result", None), (1, 1, "dead_letter", "kills_worker"), (2, 2, "result", None)]
    assert seen(database) == [0, 2]


async def test_a_death_counts_against_no_record_of_another_partition(engine: AsyncEngine, database: str) -> None:
    """Partition 0 holds the record that kills; partition 1 is in hand each time, counted, and slower."""
    for _ in range(9):
        owner = Owner(engine, LOG)
        owner.stage.waits = {0: owner.stage.begun[1], 1: owner.stage.done[0]}

        def fail(batch: Batch) -> None:
            if batch.key.partition == 0:
                raise Died

        owner.stage.fail = fail
        begin = await owner.own([0, 1])
        with contextlib.suppress(Died):
            await owner.take_side_by_side({partition: [0] for partition in (0, 1) if begin[partition] == 0})
    judged_by = (
        "SELECT l.partition, v.kind, v.reason FROM ingest.verdicts v JOIN ingest.ledger l USING (ledger_id) ORDER BY 1"
    )
    assert ask(database, judged_by) == [(0, "dead_letter", "kills_worker"), (1, "result", None)]


async def test_what_kafka_does_not_take_speaks_against_no_record(engine: AsyncEngine, database: str) -> None:
    """Though everything else works, and for more tries than a record that is too slow gets."""
    owner = Owner(engine, LOG)
    await owner.own()

    def fail(batch: Batch) -> None:
        if len(owner.stage.batches) < REFUSED_AFTER:
            raise Undelivered("Kafka did not take it")

    owner.stage.fail = fail
    await owner.take([0, 1])
    assert verdicts(database) == [(0, 1, "result", None)]


async def test_a_broker_that_answers_and_takes_nothing_makes_the_worker_leave(
    engine: AsyncEngine, database: str
) -> None:
    """The next start has another producer. While it is away nobody leaves."""
    owner = Owner(engine, LOG)
    await owner.own()
    owner.healthy = False

    def fail(batch: Batch) -> None:
        owner.healthy = len(owner.stage.batches) > 2 * REFUSED_AFTER
        raise Undelivered("Kafka did not take it")

    owner.stage.fail = fail
    with pytest.raises(ProducerBroken, match="8 times, beside a healthy broker: Kafka did not take it"):
        await owner.take([0])
    assert len(owner.stage.batches) == 3 * REFUSED_AFTER
    assert verdicts(database) == []
    assert owner.acked == []


async def test_a_record_that_is_always_too_slow_is_buried_alone(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG)
    await owner.own()

    def fail(batch: Batch) -> None:
        if 1 in [record.offset for record in batch.records]:
            raise Transient("not in time")

    owner.stage.fail = fail
    await owner.take([0, 1, 2])
    assert verdicts(database) == [(0, 0, "result", None), (1, 1, "dead_letter", "too_slow"), (2, 2, "result", None)]
    assert owner.acked == [(0, 0), (0, 1), (0, 2)]


async def test_a_clean_stop_clears_the_suspicion(engine: AsyncEngine, database: str) -> None:
    for _ in range(3):
        await killed(engine, lambda batch: True)
    owner = Owner(engine, LOG)
    await owner.own()
    await owner.ownership.release()
    assert await killed(engine, lambda batch: False) == [[0, 1, 2]]


async def test_a_full_outbox_speaks_against_no_record(engine: AsyncEngine, database: str) -> None:
    """Kafka is away and the outbox over its bound, while Postgres and Triton are well."""
    owner = Owner(engine, LOG)
    await owner.own()
    full = 9

    async def may_write() -> None:
        nonlocal full
        if full:
            full -= 1
            raise Transient("the outbox is full")

    owner.loop._may_write = may_write
    await owner.take([0])
    assert verdicts(database) == [(0, 0, "result", None)]


async def test_a_failing_transaction_speaks_against_no_record(engine: AsyncEngine, database: str) -> None:
    """As a lock that a migration holds."""
    owner = Owner(engine, LOG)
    await owner.own()
    locked = 9
    write = owner.stage.write

    async def locked_write(*args: Any) -> None:
        nonlocal locked
        if locked:
            locked -= 1
            raise Transient("lock timeout")
        await write(*args)

    owner.loop._stage = like(owner, write=locked_write)
    await owner.take([0])
    assert verdicts(database) == [(0, 0, "result", None)]


async def test_a_worker_that_lives_through_rebalances_has_not_died(engine: AsyncEngine, database: str) -> None:
    """Each time the partition is taken away with the first batch in hand."""
    for _ in range(7):
        owner = Owner(engine, LOG)
        await owner.own()
        revoked: list[asyncio.Future[None]] = []

        def fail(batch: Batch, owner: Owner = owner, revoked: list[asyncio.Future[None]] = revoked) -> None:
            revoked.append(asyncio.ensure_future(owner.ownership.release()))
            raise Transient("meanwhile")

        owner.stage.fail = fail
        await owner.take([0])
        assert owner.acked == []
        await revoked[0]
    last = Owner(engine, LOG)
    await last.own()
    await last.take([0])
    assert verdicts(database) == [(0, 0, "result", None)]


async def test_a_batch_in_hand_when_kafka_takes_the_partition_away_is_dropped(engine: AsyncEngine) -> None:
    """The new owner has fenced it, this process was told so, and goes on."""
    former, owner = Owner(engine, LOG), Owner(engine, LOG)
    await former.own()

    async def moved(*_: object) -> None:
        await former.ownership.release()
        await owner.own()

    work = former.stage.work

    async def slow_work(*args: Any) -> Any:
        done = await work(*args)
        await moved()
        return done

    former.loop._stage = like(former, work=slow_work)
    await former.take([0, 1])
    assert former.acked == []


async def test_work_that_never_ends_is_tried_again_after_the_deadline(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG)
    await owner.own()
    work = owner.stage.work
    tries = 0

    async def hangs_once(*args: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            await asyncio.Event().wait()
        return await work(*args)

    owner.loop._stage = like(owner, work=hangs_once)
    owner.loop._batch_deadline_seconds = 0.2
    await owner.take([0])
    assert verdicts(database) == [(0, 0, "result", None)]
    assert owner.loop.tries == tries == 2


async def test_kafka_away_while_a_gap_is_looked_at(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, Log([0, 5, 6]))
    await owner.own()
    find = owner.loop._first_offset_from
    away = 3

    async def first_offset_from(partition: int, offset: int) -> int:
        nonlocal away
        if away:
            away -= 1
            raise Transient("Kafka is away")
        return await find(partition, offset)

    owner.loop._first_offset_from = first_offset_from
    await owner.take([0, 5])
    assert owner.acked == [(0, 0), (0, 5)]
    with pytest.raises(OffsetsBroken):
        await owner.take([7])


async def test_a_header_without_a_value_is_an_empty_one(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG)
    await owner.own()
    event = owner._event(0, 0, owner.generation)
    event.message.headers = [("ce_type", None), ("twice", b"1"), ("twice", b"2")]
    await owner.loop.take([event], owner.generation)
    assert verdicts(database) == [(0, 0, "result", None)]


async def test_taking_over_while_postgres_is_away_is_transient(engine: AsyncEngine) -> None:
    away = create("postgresql://nobody@127.0.0.1:1/none", application_name="test", pool_size=1)
    ownership = Ownership(away, Owner(engine, LOG).stage)  # type: ignore[arg-type]

    async def nobody() -> dict[int, int]:
        raise AssertionError("Kafka is asked for nothing")

    with pytest.raises(Transient):
        await ownership.take_over(TOPIC_ID, {0: 0}, nobody)
    with pytest.raises(Transient):
        await ownership.release()
    assert ownership.partitions == {}
    await away.dispose()
