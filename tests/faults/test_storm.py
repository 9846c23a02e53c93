"""Workers, Kafka, Postgres and Triton are killed while records arrive; what comes out is what would have come out anyway."""

from __future__ import annotations

import random
import time

import pytest

from stack.stack import Stack
from tests.faults.chaos import Chaos, kill_server, undisturbed
from tests.faults.load import Load
from tests.faults.oracle import content, content_hash, difference, examine
from tests.workers.pipeline import STAGES

SEED = 20_261_123
SLICES = 24
WORKER_KILLS = 6
#: The broker refuses its own second registration for 3 s; then the workers find it again.
LAG_SECONDS = 60


def storm(stack: Stack, load: Load, *, partitions: int, instances: int, kills: int, expected: list[str]) -> None:
    dice = random.Random(load.seed)
    faults = ["kafka", "postgres", "triton", *["worker"] * kills]
    dice.shuffle(faults)
    schedule = dict(zip(sorted(dice.sample(range(2, SLICES), len(faults))), faults, strict=True))
    print(f"seed {load.seed}: {schedule}")
    with Chaos(stack, partitions=partitions, audio_batch=32, review_batch=32, utterance_batch=8) as p:
        p.start(STAGES, instances=instances)
        victims = list(p.workers)
        for number, items in enumerate(load.slices(p.topics, SLICES)):
            p.send(items)
            # A kill before anything is done is one of a process that only just starts.
            p.wait(lambda: p.tend() or p.rows("SELECT 1 FROM ingest.verdicts LIMIT 1"), "the first verdict")
            p.tend()
            fault = schedule.get(number)
            if fault == "worker":
                dice.choice(victims).kill()
            elif fault:
                kill_server(stack, fault)
        since = time.monotonic()
        p.wait(p.settled, "everything is done", 150)
        lag_seconds = time.monotonic() - since
        found = examine(p, p.manifest)
        print(f"oracle: {found}; content {content_hash(expected)}; lag 0 after {lag_seconds:.0f} s; exits {p.exits}")
        assert found.clean, found
        assert not difference(content(p), expected)
        assert not p.bad_exits(), p.why()
        assert sum(code == -9 for _, code in p.exits) >= kills - 1  # one may hit a worker that is down already
        assert lag_seconds < LAG_SECONDS


@pytest.mark.timeout(400)
def test_storm(own_stack: Stack) -> None:
    load = Load(seed=SEED, reviews=1_500, calls=20)
    for p in undisturbed(own_stack, load, partitions=6):
        quiet = examine(p, p.manifest)
        assert quiet.clean, quiet
        expected = content(p)
    storm(own_stack, load, partitions=6, instances=2, kills=WORKER_KILLS, expected=expected)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(5))
def test_long_storm(own_stack: Stack, seed: int) -> None:
    load = Load(seed=seed, reviews=10_000, calls=60)
    for p in undisturbed(own_stack, load, partitions=16):
        expected = content(p)
    storm(own_stack, load, partitions=16, instances=3, kills=18, expected=expected)
