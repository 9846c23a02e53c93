"""Tests that cannot fail prove nothing: each protection is taken out once, and the oracle or a test must notice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import store.ledger
import workers.loop
from stack.stack import Stack
from store.engine import create
from tests.faults import mutants
from tests.faults.chaos import Chaos
from tests.faults.load import Load
from tests.faults.oracle import Findings, examine
from tests.workers import test_loop
from tests.workers.conftest import new_database
from tests.workers.rig import make_table

REVIEWS = Load(seed=3, reviews=150, calls=0)


def red(stack: Stack, mutant: str, step: str, change_database: tuple[str, ...] = ()) -> Findings:
    """What the oracle says of a mutant reviewer that is killed once at a step; the product itself would be clean."""
    with Chaos(stack, review_batch=16) as p:
        with psycopg.connect(p.url, autocommit=True) as connection:
            for statement in change_database:
                connection.execute(statement)  # type: ignore[call-overload]
        p.send(REVIEWS.items(p.topics))
        fate = {"FAULT_MUTANT": mutant, "FAULT_STEP": step, "FAULT_NTH": "4"}
        p.doomed("reviewer", [fate, {"FAULT_MUTANT": mutant, "FAULT_STEP": ""}], instance_id=f"{p.name}-reviewer")
        p.wait(lambda: p.tend() or (p.exits and p.lag("reviewer") == 0 and p.settled()), "the mutant is done", 60)
        return examine(p, p.manifest)


@pytest.mark.timeout(200)
def test_acknowledging_before_the_commit_loses_records(stack: Stack) -> None:
    found = red(stack, "acknowledge_first", "4:inferred")
    assert found.missing, found


@pytest.mark.timeout(200)
def test_without_ledger_and_key_records_come_twice(stack: Stack) -> None:
    found = red(stack, "no_ledger_no_key", "5:committed", mutants.WITHOUT_KEYS)
    assert [one for one in found.duplicate if one.startswith("review ")], found
    assert [one for one in found.duplicate if one.startswith("verdict ")]


def acknowledges_first(patch: pytest.MonkeyPatch) -> None:
    whole = workers.loop.Loop._partition

    async def first(self: Any, partition: int, events: Any, suspects: Any) -> None:
        for event in events:
            event.ack()
        await whole(self, partition, events, suspects)

    patch.setattr(workers.loop.Loop, "_partition", first)


def acknowledges_out_of_order(patch: pytest.MonkeyPatch) -> None:
    whole = workers.loop.Loop._partition

    async def reversed_acks(self: Any, partition: int, events: Any, suspects: Any) -> None:
        held: list[Any] = []

        class Later:
            def __init__(self, event: Any) -> None:
                self.message, self._event = event.message, event

            def ack(self) -> None:
                held.append(self._event)

        await whole(self, partition, [Later(event) for event in events], suspects)
        for event in reversed(held):
            event.ack()

    patch.setattr(workers.loop.Loop, "_partition", reversed_acks)


def no_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store.ledger, "_ADVANCE", store.ledger._ADVANCE)
    mutants.no_epoch()


def no_watermark(patch: pytest.MonkeyPatch) -> None:
    async def always(conn: Any, position: Any, new_offset: int) -> bool:
        return True

    patch.setattr(store.ledger, "advance", always)


def no_gap_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(workers.loop.Loop, "_check_gaps", workers.loop.Loop._check_gaps)
    mutants.no_gap_check()


def commits_twice_over(patch: pytest.MonkeyPatch) -> None:
    """An unknown outcome of COMMIT is taken for a failure and tried again in place."""
    from errors import Transient

    patch.setattr(workers.loop, "CommitUnknown", lambda text: Transient(text))


def forgives_missing_verdicts(patch: pytest.MonkeyPatch) -> None:
    whole = workers.loop.Loop._commit

    async def lenient(self: Any, owned: Any, batch: Any, work: Any) -> bool:
        for record in batch.records:
            work.verdicts.setdefault(record.offset, ("result", None))
        return await whole(self, owned, batch, work)

    patch.setattr(workers.loop.Loop, "_commit", lenient)


def counts_every_try_as_a_death(patch: pytest.MonkeyPatch) -> None:
    whole = workers.loop.Loop._deaths_at

    async def first_try_is_the_fifth(self: Any, owned: Any, offset: int, alone: bool) -> int:
        return await whole(self, owned, offset, alone) + workers.loop.GIVE_UP_AFTER

    patch.setattr(workers.loop.Loop, "_deaths_at", first_try_is_the_fifth)


def counts_deaths_against_neighbours(patch: pytest.MonkeyPatch) -> None:
    whole = workers.loop.Loop._deaths_at

    async def whoever_is_in_hand(self: Any, owned: Any, offset: int, alone: bool) -> int:
        return await whole(self, owned, offset, True)

    patch.setattr(workers.loop.Loop, "_deaths_at", whoever_is_in_hand)


Caught = Callable[..., Awaitable[None]]
PAIRS: list[tuple[Callable[[pytest.MonkeyPatch], None], Caught]] = [
    (acknowledges_first, test_loop.test_acknowledges_in_order_and_only_after_the_commit),
    (acknowledges_first, test_loop.test_an_unknown_error_leaves_everything_unacknowledged),
    (acknowledges_out_of_order, test_loop.test_acknowledges_in_order_and_only_after_the_commit),
    (no_epoch, test_loop.test_a_former_owner_writes_nothing_even_before_the_new_one_did),
    (no_watermark, test_loop.test_a_former_owner_writes_nothing_even_before_the_new_one_did),
    (no_gap_check, test_loop.test_a_gap_in_the_delivery_is_no_progress),
    (commits_twice_over, test_loop.test_a_backend_that_dies_before_the_commit_is_transient_or_unknown),
    (forgives_missing_verdicts, test_loop.test_a_record_without_a_verdict_rolls_everything_back),
    (counts_every_try_as_a_death, test_loop.test_deaths_that_are_no_records_fault_bury_nothing),
    (counts_deaths_against_neighbours, test_loop.test_a_death_counts_against_no_record_of_another_partition),
]


@pytest.fixture
def database(stack: Stack) -> str:
    url = new_database(stack)
    make_table(url)
    return url


@pytest.fixture
def engine(database: str) -> Iterator[AsyncEngine]:
    made = create(database, application_name="test", pool_size=8)
    yield made
    asyncio.run(made.dispose())


@pytest.mark.parametrize(("mutate", "test"), PAIRS, ids=lambda one: one.__name__)
def test_the_loops_tests_catch(
    mutate: Callable[[pytest.MonkeyPatch], None],
    test: Caught,
    engine: AsyncEngine,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch)

    async def play() -> None:
        try:
            await asyncio.wait_for(test(engine, database), 20)
        finally:
            await engine.dispose()

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever the test says, if it says anything
        asyncio.run(play())
    # pytest.raises that saw nothing raised, an assertion, or the database's own refusal; a typing error does not count.
    assert not isinstance(caught.value, AttributeError | NameError | TypeError), caught.value
