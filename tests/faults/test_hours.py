"""Tests 13 and 14, long forms only: ten times the arrival rate for a while, and two hours with a death now and then."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import pytest

from stack.home import shared_memory
from stack.stack import Stack
from tests.faults.chaos import ENTRY, Chaos
from tests.faults.mix import Mix
from tests.faults.results import Figures
from tests.faults.sending import arrivals, reviews
from tests.workers.pipeline import STAGES
from tests.workers.worker import Worker

SEED = 14
#: Reviews that tell what a worker does of a backlog, and the part of it that arrives before there are ten times as many.
BACKLOG, STEADY_PART = 20_000, 0.2
STEADY_SECONDS, BURST_SECONDS = 300, 300
#: Records that tell what two workers a stage do of a backlog of reviews and calls, and the part of it that the soak sends.
MIXED_BACKLOG, SOAK_PART = 6_000, 0.6
SOAK_SECONDS, DEATH_EVERY_SECONDS, SAMPLE_SECONDS = 7_200, 180, 60
#: Of the soak's records each fourth is one of so many calls that go on at a time: 5 s of audio a second in two channels.
TALKERS = 5
MIX: dict[str, int] = {"talkers": TALKERS, "call_ms": 20_000, "every": 4}
#: What a worker may grow by in the second hour.
GROWTH_BYTES = 20 << 20


def tasks_of(worker: Worker) -> Path:
    """Where a worker of entry.py notes how many asyncio tasks it has."""
    return worker.log.with_suffix(".tasks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a worker and its children hold at a moment: bytes; tasks as of its last batch; its own connections."""

    memory: int
    tasks: int
    files: int
    threads: int
    connections: int

    @classmethod
    def of(cls, worker: Worker) -> Sample:
        assert worker.pid is not None
        process = psutil.Process(worker.pid)
        everybody = [process, *process.children(recursive=True)]
        return cls(
            memory=sum(one.memory_info().rss for one in everybody),
            tasks=int(path.read_text()) if (path := tasks_of(worker)).exists() else 0,
            files=sum(one.num_fds() for one in everybody),
            threads=sum(one.num_threads() for one in everybody),
            connections=len(process.net_connections("tcp")),
        )


def middle(samples: list[Sample], name: str) -> float:
    """Of several samples, since one may be of a moment with much in hand."""
    return median(getattr(one, name) for one in samples)


def capacity(stack: Stack) -> float:
    """Reviews a second of a backlog, with nobody sending beside it. By another worker: a backlog leaves its mark in memory."""
    with Chaos(stack, partitions=2) as p:
        p.start(["reviewer"])
        p.send(reviews(p, 0, BACKLOG))
        began, left = time.monotonic(), p.lag("reviewer")
        p.wait_until_settled(600)
        return left / (time.monotonic() - began)


@pytest.mark.slow
@pytest.mark.proof(13)
@pytest.mark.timeout(3_000)
def test_ten_times_the_arrival_rate(stack: Stack, figures: Figures) -> None:
    """Twice of what can be done arrives. Memory stays within 1.2 times of what it was, nobody is expelled, and the lag drains."""
    able = capacity(stack)
    rate = round(STEADY_PART * able)
    with Chaos(stack, partitions=2) as p:
        p.expects_deaths = False
        p.start(["reviewer"])
        steady = most = 0
        for _ in arrivals(p, rate, STEADY_SECONDS):
            steady = max(steady, Sample.of(p.workers[0]).memory)
        epochs = p.one("SELECT sum(epoch) FROM ingest.ledger WHERE stage = 'reviewer'")
        for _ in arrivals(p, 10 * rate, BURST_SECONDS):
            most = max(most, Sample.of(p.workers[0]).memory)
        began, lag = time.monotonic(), p.lag("reviewer")
        p.wait_until_settled(900)
        drained = lag / (time.monotonic() - began)
        able_after = capacity(stack)  # a shared machine may be slower by now
        p.verify(
            figures,
            f"{rate} reviews/s for {STEADY_SECONDS} s, then {10 * rate}/s for {BURST_SECONDS} s, {len(p.manifest.entries)} in all",
            "ten times the arrival rate",
            lag_seconds=900,
            memory_over_steady=round(most / steady, 2),
            largest_lag=lag,
            backlog_per_second=[round(able), round(able_after)],
            drained_per_second=round(drained),
        )
        assert lag > 10 * able, "no more came than could be done, so nothing is shown"
        assert p.one("SELECT sum(epoch) FROM ingest.ledger WHERE stage = 'reviewer'") == epochs, "a rebalance"
        assert most <= 1.2 * steady
        assert drained >= 0.8 * min(able, able_after)


def mixed_capacity(stack: Stack, dice: random.Random) -> float:
    """Records a second that two workers a stage do of a backlog of reviews and calls, sending included."""
    with Chaos(stack, partitions=2) as p:
        for stage in STAGES:
            for number in range(2):
                p.worker(stage, number)
        p.wait(p.settled, "all are at work", 120)
        mix, began = Mix(p.topics, dice, **MIX), time.monotonic()
        p.send([*mix(p, 0, MIXED_BACKLOG), *mix.rest()])
        p.wait(p.settled, "the backlog is done", 900)
        return len(p.manifest.entries) / (time.monotonic() - began)


@pytest.mark.slow
@pytest.mark.proof(14)
@pytest.mark.timeout(9_000)
def test_soak(stack: Stack, figures: Figures) -> None:
    """Two hours at 60 % of what can be done, a worker killed every three minutes: what lives on grows in nothing."""
    dice = random.Random(SEED)
    able = mixed_capacity(stack, random.Random(SEED))
    rate = round(SOAK_PART * able)
    with Chaos(stack, partitions=2) as p:
        mix = Mix(p.topics, dice, **MIX)
        for stage in STAGES:
            tasks = p.stack.home / "logs" / f"{p.name}-{stage}-0.tasks"
            survivor = p.worker(stage, 0, module=ENTRY, env={"FAULT_TASKS": str(tasks)})
            assert tasks_of(survivor) == tasks
        survivors = list(p.workers)
        mortals = [p.worker(stage, 1) for stage in STAGES]
        samples: dict[str, list[Sample]] = {stage: [] for stage in STAGES}
        shared: list[int] = []
        sampled, killed = 0.0, 0
        death = DEATH_EVERY_SECONDS * dice.uniform(0.5, 1.5)
        for now in arrivals(p, rate, SOAK_SECONDS, mix):
            p.tend()
            assert not [code for name, code in p.exits if name in {one.name for one in survivors}], p.why()
            if now > death:
                dice.choice(mortals).kill()
                killed += 1
                death = now + DEATH_EVERY_SECONDS * dice.uniform(0.5, 1.5)
            if now - sampled > SAMPLE_SECONDS:
                sampled = now
                shared.append(len(shared_memory(p.stack.home)))
                for stage, one in zip(STAGES, survivors, strict=True):
                    samples[stage].append(Sample.of(one))
        p.send(mix.rest())
        p.wait(p.settled, "everything is done", 300)
        some = len(shared) // 12  # ten minutes of samples
        early, halfway, late = (
            {stage: of[at : at + some] for stage, of in samples.items()}
            for at in (2 * some, 6 * some, len(shared) - some)
        )
        p.verify(
            figures,
            f"{rate} records/s, a fourth of them of {TALKERS} live calls, for {SOAK_SECONDS} s, {len(p.manifest.entries)} in all",
            f"{killed} SIGKILLs",
            seed=SEED,
            megabytes_after_20_min_1_h_2_h={
                stage: [round(middle(of[stage], "memory") / 2**20) for of in (early, halfway, late)] for stage in STAGES
            },
            shared_memory=[shared[2 * some], shared[-1]],
            backlog_per_second=round(able),
            cores=len(os.sched_getaffinity(0)),
            **{
                name: [round(sum(middle(one, name) for one in of.values())) for of in (early, late)]
                for name in ("tasks", "files", "threads", "connections")
            },
        )
        assert shared[-1] <= shared[2 * some]
        for stage in STAGES:
            grown = middle(late[stage], "memory") - middle(halfway[stage], "memory")
            assert grown < GROWTH_BYTES, f"{stage}: {grown} bytes in the second hour"
            assert middle(late[stage], "tasks") > 0
            for name in ("tasks", "files", "threads", "connections"):
                assert middle(late[stage], name) <= middle(early[stage], name) + 2, f"{stage}: {name}"
