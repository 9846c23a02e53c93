"""Tests 13 and 14, long forms only: ten times the arrival rate for a while, and two hours with a death now and then."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from stack.stack import Stack
from tests.faults.chaos import Chaos
from tests.faults.oracle import examine
from tests.faults.results import Figures
from tests.faults.test_order import items
from tests.workers.pipeline import Worker

SEED = 14
#: Reviews a second that two cores carry beside the servers with ease; ten times as many they do not.
RATE = 40
STEADY_SECONDS, BURST_SECONDS = 300, 300
SOAK_SECONDS, DEATH_EVERY_SECONDS = 7_200, 180


def arrivals(p: Chaos, rate: int, seconds: float, first: int) -> Iterator[int]:
    """Sends reviews at the rate, numbered from `first`; yields the next number once a second."""
    began, sent = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        due = int(now * rate)
        p.send(items(p, first + sent, due - sent))
        sent = due
        yield first + sent
        until = time.monotonic() + 1
        p.wait(lambda until=until: p.tend() or time.monotonic() > until, "the next second", 5)  # type: ignore[misc]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the stack and its workers hold at a moment."""

    memory: int
    files: int
    threads: int
    connections: int
    shared_memory: int

    @classmethod
    def of(cls, p: Chaos, workers: list[Worker]) -> Sample:
        found = [psutil.Process(one.pid) for one in workers if one.pid is not None]
        return cls(
            memory=sum(one.memory_info().rss for one in found),
            files=sum(one.num_fds() for one in found),
            threads=sum(one.num_threads() for one in found),
            connections=p.one("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"),
            shared_memory=len(list(Path("/dev/shm").iterdir())),
        )


@pytest.mark.slow
@pytest.mark.proof(13)
@pytest.mark.timeout(2_400)
def test_ten_times_the_arrival_rate(stack: Stack, figures: Figures) -> None:
    """Memory stays within 1.2 times of what it was, nobody is expelled, and the lag drains."""
    with Chaos(stack, partitions=2) as p:
        p.expects_deaths = False
        p.start(["reviewer"])
        steady = most = sent = 0
        for now in arrivals(p, RATE, STEADY_SECONDS, 0):
            sent = now
            steady = max(steady, Sample.of(p, p.workers).memory)
        epochs = p.one("SELECT sum(epoch) FROM ingest.ledger WHERE stage = 'reviewer'")
        for now in arrivals(p, 10 * RATE, BURST_SECONDS, sent):
            sent = now
            most = max(most, Sample.of(p, p.workers).memory)
        began, lag = time.monotonic(), p.lag("reviewer")
        p.wait_until_settled(900)
        drained = lag / max(1.0, time.monotonic() - began)
        found = examine(p, p.manifest)
        figures.oracle(found)
        figures.note(
            load=f"{RATE} reviews/s, then {10 * RATE}/s for {BURST_SECONDS} s, {sent} in all",
            faults="ten times the arrival rate",
            memory_over_steady=round(most / steady, 2),
            largest_lag=lag,
            drained_per_second=round(drained),
        )
        assert found.clean, found
        assert p.one("SELECT sum(epoch) FROM ingest.ledger WHERE stage = 'reviewer'") == epochs, "a rebalance"
        assert most <= 1.2 * steady
        assert not lag or drained > RATE


@pytest.mark.slow
@pytest.mark.proof(14)
@pytest.mark.timeout(9_000)
def test_soak(stack: Stack, figures: Figures) -> None:
    """Two hours, a worker killed every three minutes: what lives on grows in nothing."""
    dice = random.Random(SEED)
    with Chaos(stack, partitions=2) as p:
        p.start(["reviewer"], instances=2)
        survivor, *mortal = p.workers
        samples: list[Sample] = []
        killed, number, last = 0, 0, time.monotonic()
        for number in arrivals(p, RATE, SOAK_SECONDS, 0):
            if time.monotonic() - last > DEATH_EVERY_SECONDS:
                last, killed = time.monotonic(), killed + 1
                dice.choice(mortal).kill()
            if number // RATE % 60 == 0 and all(one.pid for one in p.workers):
                samples.append(Sample.of(p, [survivor]))
        p.wait(lambda: p.tend() or p.settled(), "everything is done", 300)
        found = examine(p, p.manifest)
        early, late = samples[len(samples) // 6], samples[-1]
        figures.oracle(found)
        figures.note(
            load=f"{RATE} reviews/s for {SOAK_SECONDS} s, {number} in all",
            faults=f"{killed} SIGKILLs",
            seed=SEED,
            memory_growth_mb=round((late.memory - early.memory) / 2**20, 1),
        )
        assert found.clean, found
        assert late.memory - early.memory < 2**20 * SOAK_SECONDS / 60, "a megabyte a minute"
        for name in ("files", "threads", "connections", "shared_memory"):
            assert getattr(late, name) <= getattr(early, name) + 4, name
