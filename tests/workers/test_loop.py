"""The seven steps against a real Postgres: what is acknowledged is committed, and what is committed happened once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import workers.loop
from errors import Transient
from store.engine import create
from tests.workers import histories
from tests.workers.histories import HISTORIES, STEPS, History, two_owners
from tests.workers.rig import Log, Owner, ask, make_table, seen
from workers.loop import CommitUnknown, Fenced, OffsetsBroken
from workers.ownership import LogTruncated
from workers.stage import Batch

LOG = Log(range(1_000))


def watermark(url: str) -> int:
    return ask(url, "SELECT next_offset FROM ingest.ledger")[0][0]


def judged(url: str) -> list[int]:
    with psycopg.connect(url, autocommit=True) as connection:
        return histories.judged(connection)


@pytest.fixture(autouse=True)
def _table(database: str) -> None:
    make_table(database)


async def test_acknowledges_in_order_and_only_after_the_commit(engine: AsyncEngine, database: str) -> None:
    at_ack: list[tuple[int, int]] = []
    owner = Owner(engine, LOG, on_ack=lambda offset: at_ack.append((offset, watermark(database))))
    await owner.own()
    await owner.take([0, 1, 2])
    await owner.take([3, 4])
    assert at_ack == [(0, 3), (1, 3), (2, 3), (3, 5), (4, 5)]
    assert seen(database) == judged(database) == [0, 1, 2, 3, 4]


async def test_the_steps_come_in_their_order(engine: AsyncEngine) -> None:
    steps: list[str] = []
    owner = Owner(engine, LOG, on_step=steps.append)
    await owner.own()
    await owner.take([0, 1])
    assert steps == STEPS


async def test_batches_of_two_partitions_run_side_by_side(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG, deadline_seconds=30)
    assert await owner.own([0, 1]) == {0: 0, 1: 0}
    owner.stage.waits, owner.stage.patience = {0: owner.stage.begun[1], 1: owner.stage.begun[0]}, 10.0
    await owner.take_side_by_side({0: [0, 1], 1: [0, 1, 2]})
    assert not owner.stage.in_vain, "one waited for the other's end"
    assert [offset for partition, offset in owner.acked if partition == 1] == [0, 1, 2]
    assert seen(database) == [0, 1, 0, 1, 2]


async def test_what_lies_below_the_watermark_is_acknowledged_without_work(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG)
    await owner.own()
    await owner.take([0, 1, 2])
    await owner.take([1, 2, 3])
    await owner.take([0, 3])
    assert owner.stage.batches == [[0, 1, 2], [3]]
    assert owner.acked[3:] == [(0, 1), (0, 2), (0, 3), (0, 0), (0, 3)]
    assert seen(database) == [0, 1, 2, 3]


async def test_a_batch_of_an_older_assignment_is_dropped(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG)
    await owner.own()
    await owner.own()
    await owner.take([0, 1], generation=1)
    assert owner.acked == []
    assert seen(database) == []


async def test_a_gap_that_kafka_has_too_is_none(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, Log([0, 1, 5, 6, 9]))
    await owner.own()
    await owner.take([0, 1, 5])
    await owner.take([6, 9])
    assert judged(database) == [0, 1, 5, 6, 9]
    assert watermark(database) == 10


async def test_a_gap_in_the_delivery_is_no_progress(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG)
    await owner.own()
    await owner.take([0, 1])
    with pytest.raises(OffsetsBroken):
        await owner.take([3, 4])
    with pytest.raises(OffsetsBroken):
        await owner.take([2, 4])
    assert owner.acked == [(0, 0), (0, 1)]
    assert seen(database) == [0, 1]


async def test_what_is_transient_is_tried_again(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG)
    await owner.own()
    failures = iter([Transient("Triton is away"), Transient("still")])

    def fail(batch: Batch) -> None:
        for error in failures:
            raise error

    owner.stage.fail = fail
    await owner.take([0, 1])
    assert owner.stage.batches == [[0, 1]] * 3
    assert seen(database) == [0, 1]
    assert owner.acked == [(0, 0), (0, 1)]


async def test_an_unknown_error_leaves_everything_unacknowledged(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG)
    await owner.own()

    def fail(batch: Batch) -> None:
        raise KeyError("a bug")

    owner.stage.fail = fail
    with pytest.raises(KeyError):
        await owner.take([0, 1])
    assert (owner.acked, seen(database), watermark(database)) == ([], [], 0)


async def test_a_record_without_a_verdict_rolls_everything_back(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG)
    await owner.own()
    owner.stage.forget = frozenset({1})
    with pytest.raises(AssertionError, match="verdict"):
        await owner.take([0, 1])
    assert (owner.acked, seen(database), watermark(database)) == ([], [], 0)


async def test_a_former_owner_writes_nothing_even_before_the_new_one_did(engine: AsyncEngine, database: str) -> None:
    """The epoch alone refuses it: the watermark is where the former owner left it."""
    former, owner = Owner(engine, LOG), Owner(engine, LOG)
    await former.own()
    await owner.own()
    with pytest.raises(Fenced):
        await former.take([0, 1])
    assert (former.acked, seen(database), watermark(database)) == ([], [], 0)
    await owner.take([0, 1])
    assert seen(database) == [0, 1]


async def test_fenced_by_an_assignment_of_its_own_it_goes_on(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG)
    await owner.own()

    def reassigned(batch: Batch) -> None:
        owner.stage.fail = lambda batch: None
        again.append(asyncio.ensure_future(owner.own()))
        raise Transient("meanwhile the partition is assigned anew")

    again: list[asyncio.Future[dict[int, int]]] = []
    owner.stage.fail = reassigned
    await owner.take([0, 1])
    assert (owner.acked, seen(database)) == ([], [])
    assert await again[0] == {0: 0}
    await owner.take([0, 1])
    assert seen(database) == [0, 1]


async def test_a_batch_that_waited_for_its_place_beyond_its_assignment_is_dropped(engine: AsyncEngine) -> None:
    """Its records may be those of a topic that was made again meanwhile: the same offsets, other content."""
    owner = Owner(engine, LOG)
    await owner.own()
    async with owner.loop._all_places():
        waiting = asyncio.create_task(owner.take([0, 1]))
        await asyncio.sleep(0)
        await owner.own()
    await waiting
    assert (owner.stage.batches, owner.acked) == ([], [])


class LateFirst:
    """An engine whose first connection is there only after `others` has had its chance."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._first = True
        self.others = asyncio.Event()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        first, self._first = self._first, False
        if first:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.others.wait(), 1)
        async with self._engine.connect() as connection:
            yield connection


async def test_of_two_assignments_at_once_the_later_one_owns(engine: AsyncEngine, database: str) -> None:
    """Its epoch must be the higher one, whichever gets its connection first: else it would be fenced by itself."""
    owner = Owner(engine, LOG)
    late = LateFirst(engine)
    owner.ownership._engine = late  # type: ignore[assignment]
    first = asyncio.ensure_future(owner.own())
    await asyncio.sleep(0)
    await owner.own()
    late.others.set()
    await first
    await owner.take([0, 1])
    assert seen(database) == [0, 1]


def at(step: str, act: Callable[[], None]) -> Callable[[str], None]:
    """Calls `act` once, when the step is reached."""
    left = [act]
    return lambda now: left.pop()() if now == step and left else None


async def test_a_backend_that_dies_before_the_commit_is_transient_or_unknown(
    engine: AsyncEngine, database: str
) -> None:
    def cut_off() -> None:
        ask(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                      " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip

    retried = Owner(engine, LOG, on_step=at("5:advanced", cut_off))
    await retried.own()
    await retried.take([0, 1])
    assert seen(database) == [0, 1]
    unknown = Owner(engine, LOG, on_step=at("5:written", cut_off))
    await unknown.own()
    with pytest.raises(CommitUnknown):
        await unknown.take([2, 3])
    assert unknown.acked == []
    successor = Owner(engine, LOG)
    assert await successor.own() == {0: 2}
    await successor.take([2, 3])
    assert seen(database) == judged(database) == [0, 1, 2, 3]


async def test_a_commit_whose_answer_is_lost_is_not_repeated(
    engine: AsyncEngine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def committed_but_mute(connection: AsyncConnection) -> None:
        await connection.commit()
        raise CommitUnknown("the network broke")

    owner = Owner(engine, LOG)
    await owner.own()
    monkeypatch.setattr(workers.loop, "commit", committed_but_mute)
    with pytest.raises(CommitUnknown):
        await owner.take([0, 1])
    assert owner.acked == []
    monkeypatch.undo()
    successor = Owner(engine, LOG)
    assert await successor.own() == {0: 2}
    await successor.take([0, 1, 2])
    assert successor.acked == [(0, 0), (0, 1), (0, 2)]
    assert seen(database) == judged(database) == [0, 1, 2]


async def test_a_log_trimmed_past_the_watermark_is_noted(engine: AsyncEngine, database: str) -> None:
    owner = Owner(engine, LOG)
    await owner.own()
    await owner.take([0, 1])
    assert await owner.own(log_start=7) == {0: 7}
    await owner.take([7])
    assert ask(database, "SELECT first_offset, last_offset FROM ingest.lost_ranges") == [(2, 6)]
    assert seen(database) == [0, 1, 7]


async def test_a_log_that_ends_before_the_watermark_is_not_read(engine: AsyncEngine, database: str) -> None:
    """Kafka lost records that are done: the next ones would get their offsets, and be dropped as done."""
    await (former := Owner(engine, LOG)).own()
    await former.take([0, 1, 2, 3])
    owner = Owner(engine, Log(range(2)))
    with pytest.raises(LogTruncated, match="ends at offset 2, but 2 records"):
        await owner.own()
    assert (owner.ownership.partitions, owner.ownership.ready) == ({}, False)
    owner.log.offsets = range(4)  # it is as long again
    assert await owner.own() == {0: 4}
    assert owner.ownership.ready


@given(HISTORIES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_two_owners_that_die_and_come_back_do_everything_once(database: str, history: History) -> None:
    with psycopg.connect(database, autocommit=True) as connection:

        async def play() -> int:
            engine = create(database, application_name="test", pool_size=4)
            try:
                return await two_owners(engine, connection, history)
            finally:
                await engine.dispose()

        end = asyncio.run(play())
        done = sorted([*histories.seen(connection), *histories.buried(connection)])
        assert done == histories.judged(connection) == list(range(end))
