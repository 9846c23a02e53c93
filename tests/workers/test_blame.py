"""What speaks against a record, and what does not: only its own failures bury it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Transient
from store.engine import create
from tests.workers.rig import TOPIC_ID, Log, Owner, make_table
from workers.loop import OffsetsBroken
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

    owner.loop._stage = SimpleNamespace(
        name=owner.stage.name, work=owner.stage.work, write=locked_write, committed=owner.stage.committed
    )
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

    former.loop._stage = SimpleNamespace(name="reviewer", work=slow_work, write=former.stage.write)
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

    owner.loop._stage = SimpleNamespace(
        name="reviewer", work=hangs_once, write=owner.stage.write, committed=owner.stage.committed
    )
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
