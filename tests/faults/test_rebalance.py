"""Tests 4 and 15: workers come, go and are told to stop while records arrive; little is handed out again, nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.stack import Stack
from tests.faults.chaos import ENTRY, Chaos
from tests.faults.load import Item
from tests.faults.oracle import examine
from tests.faults.results import Figures
from tests.faults.takes import redelivered
from tests.faults.test_order import items
from tests.workers.pipeline import Worker

RATE = 40  # reviews a second
EVERY_SECONDS = 5.0
COMMIT_SECONDS = 1.0
BATCH = 16


def arrivals(p: Chaos, seconds: float) -> Iterator[float]:
    """Sends reviews at the rate; yields the seconds since the beginning, four times a second."""
    began, sent = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        due = int(now * RATE)
        fresh: list[Item] = items(p, sent, due - sent)
        if fresh:
            p.send(fresh)
        sent = due
        yield now
        until = time.monotonic() + 0.25
        p.wait(lambda until=until: time.monotonic() > until, "the next quarter of a second")  # type: ignore[misc]


def come_and_go(stack: Stack, figures: Figures, takes: Path, seconds: float) -> None:
    with Chaos(stack, partitions=3, review_batch=BATCH) as p:
        env = {"FAULT_TAKES": str(takes)}
        p.worker("reviewer", module=ENTRY, env=env)
        guest: Worker | None = None
        changes, last = 0, 0.0
        for now in arrivals(p, seconds):
            if now - last < EVERY_SECONDS or (guest and "partitions.assigned" not in guest.tail(1_000)):
                continue  # on a busy machine a worker starts for longer than that
            last, changes = now, changes + 1
            if guest is None:
                guest = p.worker("reviewer", changes, module=ENTRY, env=env)
            else:
                p.workers.remove(guest)
                assert guest.stop() == 0, guest.tail()
                guest = None
        p.wait_until_settled(90)
        again = redelivered(takes)
        found = examine(p, p.manifest)
        epochs = p.one("SELECT sum(epoch - 1) FROM ingest.ledger WHERE stage = 'reviewer'")
        figures.oracle(found)
        figures.note(
            load=f"{RATE} reviews/s for {seconds:.0f} s", faults=f"{changes} workers came or went", redelivered=again
        )
        assert found.clean, found
        assert not p.exits or not p.bad_exits(), p.why()
        assert epochs > changes, "partitions have moved"
        # Each change is at least one rebalance; each may repeat a commit interval's traffic and what was in hand.
        assert again <= changes * (RATE * COMMIT_SECONDS + BATCH)


@pytest.mark.chaos
@pytest.mark.proof(4)
@pytest.mark.timeout(300)
def test_workers_come_and_go(stack: Stack, figures: Figures, tmp_path: Path) -> None:
    come_and_go(stack, figures, tmp_path / "takes", 40)


@pytest.mark.slow
@pytest.mark.proof(4)
@pytest.mark.timeout(900)
def test_workers_come_and_go_for_five_minutes(stack: Stack, figures: Figures, tmp_path: Path) -> None:
    come_and_go(stack, figures, tmp_path / "takes", 300)


def stops(stack: Stack, figures: Figures, takes: Path, times: int) -> None:
    with Chaos(stack, partitions=1, review_batch=BATCH) as p:
        p.expects_deaths = True
        worker = p.worker("reviewer", module=ENTRY, env={"FAULT_TAKES": str(takes)}, instance_id=f"{p.name}-r")
        codes: list[int | None] = []
        longest, before = 0.0, 0
        for _ in arrivals(p, times * 60.0):
            if p.one("SELECT coalesce(max(next_offset), 0) FROM ingest.ledger") < before + 2 * BATCH:
                continue  # it must have worked since its start
            began = time.monotonic()
            codes.append(worker.stop())
            longest = max(longest, time.monotonic() - began)
            before = p.one("SELECT max(next_offset) FROM ingest.ledger")
            worker.start()
            if len(codes) == times:
                break
        p.wait(lambda: p.tend() or p.settled(), "everything is done", 120)
        again = redelivered(takes)
        found = examine(p, p.manifest)
        figures.oracle(found)
        figures.note(
            load=f"{RATE} reviews/s",
            faults=f"{times} SIGTERMs",
            redelivered=again,
            longest_stop_seconds=round(longest, 1),
        )
        assert codes == [0] * times
        assert found.clean, found
        assert again <= times * BATCH
        assert longest < 15  # what the supervisor allows


@pytest.mark.chaos
@pytest.mark.proof(15)
@pytest.mark.timeout(700)
def test_ten_sigterms(stack: Stack, figures: Figures, tmp_path: Path) -> None:
    stops(stack, figures, tmp_path / "takes", 10)


@pytest.mark.slow
@pytest.mark.proof(15)
@pytest.mark.timeout(3_600)
def test_fifty_sigterms(stack: Stack, figures: Figures, tmp_path: Path) -> None:
    stops(stack, figures, tmp_path / "takes", 50)
