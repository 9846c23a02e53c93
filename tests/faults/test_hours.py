"""Tests 13 and 14, long forms only: ten times the arrival rate for a while, and two hours with a death now and then."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from stack.stack import Stack
from tests.faults.chaos import ENTRY, Chaos
from tests.faults.results import Figures
from tests.faults.sending import arrivals
from tests.workers.worker import Worker

SEED = 14
#: Reviews a second that two cores carry beside the servers with ease; ten times as many they do not.
RATE = 40
STEADY_SECONDS, BURST_SECONDS = 300, 300
SOAK_SECONDS, DEATH_EVERY_SECONDS, SAMPLE_SECONDS = 7_200, 180, 60


def tasks_of(worker: Worker) -> Path:
    """Where a worker of entry.py notes how many asyncio tasks it has."""
    return worker.log.with_suffix(".tasks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the stack and its workers hold at a moment; `tasks` as of each worker's last batch."""

    memory: int
    tasks: int
    files: int
    threads: int
    connections: int
    shared_memory: int

    @classmethod
    def of(cls, p: Chaos, workers: list[Worker]) -> Sample:
        found = [psutil.Process(one.pid) for one in workers if one.pid is not None]
        return cls(
            memory=sum(one.memory_info().rss for one in found),
            tasks=sum(int(path.read_text()) for one in workers if (path := tasks_of(one)).exists()),
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
        steady = most = 0
        for _ in arrivals(p, RATE, STEADY_SECONDS):
            steady = max(steady, Sample.of(p, p.workers).memory)
        epochs = p.one("SELECT sum(epoch) FROM ingest.ledger WHERE stage = 'reviewer'")
        for _ in arrivals(p, 10 * RATE, BURST_SECONDS):
            most = max(most, Sample.of(p, p.workers).memory)
        began, lag = time.monotonic(), p.lag("reviewer")
        p.wait_until_settled(900)
        drained = lag / max(1.0, time.monotonic() - began)
        p.verify(
            figures,
            f"{RATE} reviews/s, then {10 * RATE}/s for {BURST_SECONDS} s, {len(p.manifest.entries)} in all",
            "ten times the arrival rate",
            lag_seconds=900,
            memory_over_steady=round(most / steady, 2),
            largest_lag=lag,
            drained_per_second=round(drained),
        )
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
        for number in range(2):
            tasks = p.stack.home / "logs" / f"{p.name}-reviewer-{number}.tasks"
            p.worker("reviewer", number, module=ENTRY, env={"FAULT_TASKS": str(tasks)})
        survivor, mortal = p.workers
        assert tasks_of(mortal) == tasks
        samples: list[Sample] = []
        sampled, killed = 0.0, 0
        death = DEATH_EVERY_SECONDS * dice.uniform(0.5, 1.5)
        for now in arrivals(p, RATE, SOAK_SECONDS):
            p.tend()
            if now > death:
                mortal.kill()
                killed += 1
                death = now + DEATH_EVERY_SECONDS * dice.uniform(0.5, 1.5)
            if now - sampled > SAMPLE_SECONDS and all(one.pid for one in p.workers):
                sampled = now
                samples.append(Sample.of(p, [survivor]))
        p.wait(p.settled, "everything is done", 300)
        early, late = samples[len(samples) // 6], samples[-1]
        p.verify(
            figures,
            f"{RATE} reviews/s for {SOAK_SECONDS} s, {len(p.manifest.entries)} in all",
            f"{killed} SIGKILLs",
            seed=SEED,
            memory_growth_mb=round((late.memory - early.memory) / 2**20, 1),
            tasks=f"{early.tasks} to {late.tasks}",
            files=f"{early.files} to {late.files}",
            connections=f"{early.connections} to {late.connections}",
        )
        assert not [code for name, code in p.exits if name == survivor.name], p.why()
        assert late.memory - early.memory < 2**20 * SOAK_SECONDS / 60, "a megabyte a minute"
        assert late.tasks > 0
        for name in ("tasks", "files", "threads", "connections", "shared_memory"):
            assert getattr(late, name) <= getattr(early, name) + 4, name
