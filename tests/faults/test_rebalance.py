"""Tests 4 and 15: workers come, go and are told to stop while records arrive; little is handed out again, nothing is lost."""

from __future__ import annotations

import random
import time
from itertools import pairwise
from pathlib import Path

import pytest

from stack.stack import Stack
from tests.faults.chaos import ENTRY, LAG_SECONDS, Chaos
from tests.faults.mix import Mix
from tests.faults.results import Figures
from tests.faults.sending import arrivals
from tests.faults.takes import redelivered
from tests.workers.pipeline import STAGES
from tests.workers.worker import PATIENCE_SECONDS, Worker

RATE = 40  # records a second
EVERY_SECONDS = 5.0
COMMIT_SECONDS = 1.0
BATCH = 16
#: One call a second is to be summarized.
CALL_BATCH = 2
SEED = 15


@pytest.mark.proof(4)
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(40, marks=[pytest.mark.chaos, pytest.mark.timeout(300)]),
        pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_workers_come_and_go(stack: Stack, figures: Figures, tmp_path: Path, seconds: int) -> None:
    takes = tmp_path / "takes"
    with Chaos(stack, partitions=3, review_batch=BATCH) as p:
        env = {"FAULT_TAKES": str(takes)}
        p.worker("reviewer", module=ENTRY, env=env)
        guest: Worker | None = None
        changes, last = 0, 0.0
        again: list[int] = []  # what was handed out twice, before each change and at the end
        for now in arrivals(p, RATE, seconds):
            if now - last < EVERY_SECONDS or (guest and "partitions.assigned" not in guest.tail(1_000)):
                continue  # on a busy machine a worker starts for longer than that
            last, changes = now, changes + 1
            again.append(redelivered(takes))
            if guest is None:
                guest = p.worker("reviewer", changes, module=ENTRY, env=env)
            else:
                p.workers.remove(guest)
                assert guest.stop() == 0, guest.tail()
                guest = None
        p.wait_until_settled(90)
        again.append(redelivered(takes))
        most = max(after - before for before, after in pairwise(again))
        epochs = p.one("SELECT sum(epoch - 1) FROM ingest.ledger WHERE stage = 'reviewer'")
        p.verify(
            figures,
            f"{RATE} reviews/s for {seconds} s",
            f"{changes} workers came or went",
            redelivered=again[-1],
            most_by_one=most,
            allowed_by_one=round(RATE * COMMIT_SECONDS + BATCH),
        )
        assert epochs > changes, "partitions have moved"
        # A change may repeat a commit interval's traffic and what was in hand, however many rebalances it makes.
        assert most <= RATE * COMMIT_SECONDS + BATCH


@pytest.mark.proof(15)
@pytest.mark.parametrize(
    "times",
    [
        pytest.param(10, marks=[pytest.mark.chaos, pytest.mark.timeout(900)]),
        pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)]),
    ],
)
def test_sigterms(stack: Stack, figures: Figures, tmp_path: Path, times: int) -> None:
    """The stages in turn, each while records of its wait for it."""
    batches = {"audio_batch": BATCH, "utterance_batch": BATCH, "call_batch": CALL_BATCH, "review_batch": BATCH}
    most = dict(zip(STAGES, batches.values(), strict=True))
    with Chaos(stack, partitions=1, **batches) as p:
        mix = Mix(p.topics, random.Random(SEED), talkers=5, call_ms=4_000, every=4)
        takes = {stage: tmp_path / stage for stage in STAGES}
        workers = {
            stage: p.worker(stage, module=ENTRY, env={"FAULT_TAKES": str(takes[stage])}, instance_id=p.name)
            for stage in STAGES
        }
        before = dict.fromkeys(STAGES, 0)
        codes: list[int | None] = []
        longest = 0.0
        for _ in arrivals(p, RATE, times * 60.0, mix):
            stage = STAGES[len(codes) % len(STAGES)]
            if done(p, stage) < before[stage] + 2 * most[stage] or not p.lag(stage):
                continue  # it must have worked since its start, and have work left
            began = time.monotonic()
            codes.append(workers[stage].stop())
            longest = max(longest, time.monotonic() - began)
            before[stage] = done(p, stage)
            workers[stage].start()
            if len(codes) == times:
                break
        p.send(mix.rest())
        # Each works for a part of its life only, so something has gathered: a minute, and a second for each twenty.
        behind = sum(map(p.lag, STAGES))
        patience = LAG_SECONDS + behind / 20
        p.wait(p.settled, "everything is done", patience)
        again = {stage: redelivered(takes[stage]) for stage in STAGES}
        p.verify(
            figures,
            f"{RATE} records/s, a fourth of them of calls of 4 s",
            f"{times} SIGTERMs, the four stages in turn",
            seed=SEED,
            lag_seconds=patience,
            largest_lag=behind,
            redelivered=again,
            longest_stop_seconds=round(longest, 1),
        )
        assert codes == [0] * times
        for number, stage in enumerate(STAGES):
            assert again[stage] <= len(codes[number :: len(STAGES)]) * most[stage], stage
        assert longest < PATIENCE_SECONDS


def done(p: Chaos, stage: str) -> int:
    """Records that the stage is done with."""
    return int(p.one("SELECT coalesce(max(next_offset), 0) FROM ingest.ledger WHERE stage = %s", stage))
