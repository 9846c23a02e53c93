"""The ledger: epochs fence, watermarks only move on, every offset gets one verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import engine as engines
from store import ledger
from store.ledger import LedgerKey, Position, Verdict
from tests.store.make import TOPIC


def key(**changes: object) -> LedgerKey:
    return replace(
        LedgerKey(stage="reviewer", run_id=uuid4(), topic="t", topic_id=TOPIC, partition=0),
        **changes,  # type: ignore[arg-type]
    )


async def test_a_new_partition_begins_at_the_start_of_the_log(conn: AsyncConnection) -> None:
    position = await ledger.acquire(conn, key(), 7)
    assert (position.next_offset, position.epoch, position.lost) == (7, 1, None)


async def test_the_next_owner_gets_the_watermark_and_the_last_one_is_fenced(conn: AsyncConnection) -> None:
    k = key()
    first = await ledger.acquire(conn, k, 0)
    assert await ledger.advance(conn, first, 5)
    second = await ledger.acquire(conn, k, 0)
    assert (second.ledger_id, second.next_offset, second.epoch) == (first.ledger_id, 5, 2)
    assert not await ledger.advance(conn, first.moved(5), 6)
    assert await ledger.advance(conn, second, 6)


async def test_advance_compares_the_watermark(conn: AsyncConnection) -> None:
    position = await ledger.acquire(conn, key(), 0)
    assert await ledger.advance(conn, position, 5)
    assert not await ledger.advance(conn, position, 5)
    with pytest.raises(ValueError, match="never moves back"):
        await ledger.advance(conn, position.moved(5), 4)


async def test_a_recreated_topic_and_another_run_begin_anew(conn: AsyncConnection) -> None:
    k = key()
    assert await ledger.advance(conn, await ledger.acquire(conn, k, 0), 5)
    for other in (replace(k, topic_id=uuid4()), replace(k, run_id=uuid4()), replace(k, partition=1)):
        assert (await ledger.acquire(conn, other, 0)).next_offset == 0


async def test_a_log_that_begins_after_the_watermark_is_recorded(conn: AsyncConnection) -> None:
    k = key()
    await ledger.advance(conn, await ledger.acquire(conn, k, 0), 5)
    position = await ledger.acquire(conn, k, 9)
    assert (position.next_offset, position.lost) == (9, (5, 8))
    assert (await ledger.acquire(conn, k, 9)).lost is None
    rows = (await conn.execute(sa.text("SELECT first_offset, last_offset FROM ingest.lost_ranges"))).all()
    assert [tuple(r) for r in rows] == [(5, 8)]


@pytest.mark.parametrize("again", [(0, 0), (9, 9), (3, 4), (0, 9), (9, 12)])
async def test_no_offset_gets_two_verdicts(conn: AsyncConnection, again: tuple[int, int]) -> None:
    position = await ledger.acquire(conn, key(), 0)
    await ledger.record_verdicts(conn, position.ledger_id, [Verdict(first_offset=0, last_offset=9, kind="consumed")])
    with pytest.raises(IntegrityError):
        await ledger.record_verdicts(
            conn, position.ledger_id, [Verdict(first_offset=again[0], last_offset=again[1], kind="result")]
        )


async def test_not_even_in_one_batch(conn: AsyncConnection) -> None:
    position = await ledger.acquire(conn, key(), 0)
    twice = [Verdict(first_offset=0, last_offset=1, kind="result"), Verdict(first_offset=1, last_offset=2, kind="late")]
    with pytest.raises(IntegrityError):
        await ledger.record_verdicts(conn, position.ledger_id, twice)


def test_verdicts_of_neighbours_are_joined() -> None:
    verdicts = ledger.ranges([(1, "result", None), (0, "result", None), (3, "dead_letter", "no_text")])
    assert [(v.first_offset, v.last_offset) for v in verdicts] == [(0, 1), (3, 3)]


@pytest.mark.parametrize(("first", "last", "kind"), [(2, 1, "result"), (-1, 1, "result"), (0, 1, "fine")])
def test_a_verdict_is_a_range_and_a_known_kind(first: int, last: int, kind: str) -> None:
    with pytest.raises(ValueError, match=r"verdict|range"):
        Verdict(first_offset=first, last_offset=last, kind=kind)  # type: ignore[arg-type]


async def test_attempts_are_counted_and_forgotten(conn: AsyncConnection) -> None:
    position = await ledger.acquire(conn, key(), 0)
    other = await ledger.acquire(conn, key(), 0)
    for ledger_id in (position.ledger_id, position.ledger_id, other.ledger_id, position.ledger_id):
        await ledger.add_attempt(conn, ledger_id, 4)
    assert await ledger.attempts(conn, position.ledger_id) == {4: 3}
    await ledger.clear_attempts(conn, position.ledger_id)
    assert await ledger.attempts(conn, position.ledger_id) == {}
    assert await ledger.attempts(conn, other.ledger_id) == {4: 1}


async def test_status_lists_the_ledger(conn: AsyncConnection) -> None:
    k = key()
    await ledger.acquire(conn, k, 3)
    assert await ledger.rows(conn) == [(k, 3)]


class Owners(RuleBasedStateMachine):
    """Workers that come and go, step, crash and step at the same time on one partition."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner: asyncio.Runner
        self.engine: AsyncEngine
        self.connect()
        self.key = key()
        self.owners: list[Position] = []
        self.log_start = 0
        self.watermark = 0
        self.lost: list[tuple[int, int]] = []

    def connect(self) -> None:
        self.runner = asyncio.Runner()
        self.engine = engines.create(self.url, pool_size=4)

    async def _acquire(self) -> Position:
        async with self.engine.begin() as conn:
            return await ledger.acquire(conn, self.key, self.log_start)

    async def _step(self, owner: Position, count: int, *, crash: bool = False) -> bool:
        """Step 5 as a worker does it: watermark first, verdicts, commit or not."""
        async with self.engine.connect() as conn:
            if not await ledger.advance(conn, owner, owner.next_offset + count):
                return False
            done = Verdict(first_offset=owner.next_offset, last_offset=owner.next_offset + count - 1, kind="result")
            await ledger.record_verdicts(conn, owner.ledger_id, [done])
            if not crash:
                await conn.commit()
            return not crash

    def _assigned(self, position: Position) -> None:
        if self.log_start > self.watermark and self.owners:
            assert position.lost == (self.watermark, self.log_start - 1)
            self.lost.append(position.lost)
        self.watermark = max(self.watermark, self.log_start)
        assert position.next_offset == self.watermark
        assert position.epoch == len(self.owners) + 1
        self.owners.append(position)

    def _committed(self, index: int, count: int) -> None:
        self.owners[index] = self.owners[index].moved(self.owners[index].next_offset + count)
        self.watermark = self.owners[index].next_offset

    @rule()
    def assign(self) -> None:
        self._assigned(self.runner.run(self._acquire()))

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), count=st.integers(1, 5), crash=st.booleans())
    def step(self, data: st.DataObject, count: int, crash: bool) -> None:
        index = data.draw(st.integers(0, len(self.owners) - 1))
        committed = self.runner.run(self._step(self.owners[index], count, crash=crash))
        assert committed == (index == len(self.owners) - 1 and not crash), "only the newest owner may write"
        if committed:
            self._committed(index, count)

    @precondition(lambda self: len(self.owners) > 1)
    @rule(count=st.integers(1, 5))
    def two_step_at_once(self, count: int) -> None:
        async def both() -> list[bool]:
            old, new = self.owners[-2], self.owners[-1]
            return list(await asyncio.gather(self._step(old, count), self._step(new, count)))

        assert self.runner.run(both()) == [False, True]
        self._committed(len(self.owners) - 1, count)

    @precondition(lambda self: self.owners and self.log_start <= self.watermark)
    @rule(count=st.integers(1, 5))
    def a_step_and_an_assignment_at_once(self, count: int) -> None:
        async def both() -> tuple[bool, Position]:
            return await asyncio.gather(self._step(self.owners[-1], count), self._acquire())

        committed, position = self.runner.run(both())
        if committed:
            self._committed(len(self.owners) - 1, count)
        self._assigned(position)
        if not committed:  # whoever came first, go on from the same watermark: hypothesis repeats histories
            assert self.runner.run(self._step(self.owners[-1], count))
            self._committed(len(self.owners) - 1, count)

    @precondition(lambda self: self.owners)
    @rule(count=st.integers(1, 5))
    def retention_passes_the_watermark(self, count: int) -> None:
        self.log_start = self.watermark + count

    @invariant()
    def each_offset_below_the_watermark_has_one_fate(self) -> None:
        async def found() -> list[tuple[int, int]]:
            async with self.engine.connect() as conn:
                rows = await conn.execute(
                    sa.text(
                        "SELECT first_offset, last_offset FROM ingest.verdicts JOIN ingest.ledger USING (ledger_id)"
                        " WHERE run_id = :run UNION ALL SELECT first_offset, last_offset FROM ingest.lost_ranges"
                        " JOIN ingest.ledger USING (ledger_id) WHERE run_id = :run ORDER BY 1"
                    ),
                    {"run": self.key.run_id},
                )
                return [(r[0], r[1]) for r in rows]

        expected = 0
        for first, last in self.runner.run(found()):
            assert first == expected, "an offset was left out or decided twice"
            expected = last + 1
        assert expected == self.watermark

    def teardown(self) -> None:
        self.runner.run(self.engine.dispose())
        self.runner.close()


FEW = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


def test_any_history_of_owners(url: str) -> None:
    run_state_machine_as_test(type("Machine", (Owners,), {"url": url}), settings=FEW)


def _without_the_epoch(sql: str) -> str:
    return sql.replace("AND epoch = :epoch", "AND :epoch > 0")


def _without_the_watermark(sql: str) -> str:
    return sql.replace("AND next_offset = :old", "AND :old >= 0").replace("AND epoch = :epoch", "AND :epoch > 0")


@pytest.mark.parametrize("mutant", [_without_the_epoch, _without_the_watermark])
def test_the_history_catches_mutants(url: str, mutant: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_ADVANCE", sa.text(mutant(str(ledger._ADVANCE))))
    # Flaky too: what a mutant does in a race depends on who comes first.
    with pytest.raises((AssertionError, IntegrityError, ExceptionGroup, Flaky)):
        run_state_machine_as_test(
            type("Machine", (Owners,), {"url": url}), settings=settings(FEW, phases=[Phase.generate])
        )
