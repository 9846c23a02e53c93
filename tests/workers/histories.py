"""Histories of two workers that share a partition, die at any step and come back: for property tests of the seven steps."""

from __future__ import annotations

from typing import Any

import psycopg
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.workers.rig import Log, Owner
from workers.loop import Fenced

__all__ = ["HISTORIES", "STEPS", "Died", "History", "buried", "empty", "judged", "seen", "two_owners"]

STEPS = ["1:taken", "2:dropped", "4:inferred", "5:advanced", "5:written", "5:committed", "6:acknowledged"]

History = list[tuple[int, str, int, int]]
HISTORIES = st.lists(
    st.tuples(
        st.integers(0, 1),  # who
        st.sampled_from(["own", "take", "take", "take", *STEPS]),  # a step: dies there while it takes
        st.integers(-2, 0),  # where the delivery begins, from the owner's own idea of the watermark
        st.integers(1, 4),  # how many
    ),
    max_size=12,
)


class Died(Exception):
    """A process that ends at a step."""


def empty(connection: psycopg.Connection[Any]) -> None:
    """Not TRUNCATE, which makes new files."""
    for table in ("seen", "ingest.verdicts", "ingest.lost_ranges", "ingest.attempts", "ingest.ledger"):
        connection.execute(f"DELETE FROM {table}")  # type: ignore[call-overload]


def seen(connection: psycopg.Connection[Any]) -> list[int]:
    """Every record that the stage wrote, as often as it did."""
    return [n for (n,) in connection.execute("SELECT n FROM seen ORDER BY partition, n")]


def buried(connection: psycopg.Connection[Any]) -> list[int]:
    """What five workers in a row died on becomes a dead letter, in a history as in life."""
    ranges = connection.execute("SELECT first_offset, last_offset FROM ingest.verdicts WHERE kind = 'dead_letter'")
    return [offset for first, last in ranges for offset in range(first, last + 1)]


def judged(connection: psycopg.Connection[Any]) -> list[int]:
    """Every offset with a verdict, as often as it has one."""
    ranges = connection.execute(
        "SELECT first_offset, last_offset FROM ingest.verdicts ORDER BY ledger_id, first_offset"
    )
    return [offset for first, last in ranges for offset in range(first, last + 1)]


async def two_owners(engine: AsyncEngine, connection: psycopg.Connection[Any], history: History) -> int:
    """Plays it in an emptied database, then lets somebody finish it. What is acknowledged happened once by then.

    Returns the end: offsets below it must have happened once now.
    """
    empty(connection)
    log = Log(range(1_000))
    doomed: list[str] = []
    acked: list[int] = []

    def step(now: str) -> None:
        if doomed and doomed[0] == now:
            raise Died

    def on_ack(offset: int) -> None:
        assert [*seen(connection), *buried(connection)].count(offset) == 1
        acked.append(offset)

    owners: dict[int, Owner | None] = {0: None, 1: None}
    for who, action, back, many in history:
        owner = owners[who]
        if action == "own" or owner is None:
            owners[who] = owner = owner or Owner(engine, log, on_step=step, on_ack=on_ack)
            await owner.own()
            if action == "own":
                continue
        doomed[:] = [action] if action in STEPS else []
        first = max(0, owner.ownership.partitions[0].position.next_offset + back)
        acked.clear()
        try:
            await owner.take(range(first, first + many))
        except (Died, Fenced):
            owners[who] = None
        assert acked == sorted(acked)
    doomed.clear()
    last = Owner(engine, log, on_step=step, on_ack=on_ack)
    begin = (await last.own())[0]
    end = max(begin, 8)
    await last.take(range(begin, end))
    return end
