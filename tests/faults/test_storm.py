"""Workers, Kafka, Postgres and Triton are killed while records arrive; what comes out is what would have come out anyway."""

from __future__ import annotations

import random
import signal
from collections import Counter

import pytest

from stack.stack import Stack
from tests.faults.chaos import LAG_SECONDS, Chaos, kill_server, undisturbed
from tests.faults.load import Load
from tests.faults.oracle import content_hash
from tests.faults.results import Figures
from tests.workers.pipeline import STAGES

SEED = 20_261_123
SLICES = 24  # at least; more where there are more faults
SERVERS = ("kafka", "postgres", "triton")
ANY = "worker"  # of whichever stage
FEW, MANY = [*SERVERS, *[ANY] * 6], [*SERVERS, *STAGES] * 16


def storm(
    stack: Stack,
    load: Load,
    figures: Figures,
    *,
    partitions: int,
    instances: int,
    kills: list[str],
    expected: list[str],
) -> None:
    """`kills`: of each server and stage as often as its name stands there."""
    dice, faults = random.Random(load.seed), list(kills)
    dice.shuffle(faults)
    slices = max(SLICES, 2 * len(faults))
    schedule = dict(zip(sorted(dice.sample(range(2, slices), len(faults))), faults, strict=True))
    print(f"seed {load.seed}: {schedule}")
    with Chaos(stack, partitions=partitions, audio_batch=32, review_batch=32, utterance_batch=8) as p:
        p.start(STAGES, instances=instances)
        victims = {name: [one for one in p.workers if name in (ANY, one.name.split("-")[1])] for name in (ANY, *STAGES)}
        for number, items in enumerate(load.slices(p.topics, slices)):
            p.send(items)
            # A kill before anything is done is one of a process that only just starts.
            p.wait(lambda: p.tend() or p.rows("SELECT 1 FROM ingest.verdicts LIMIT 1"), "the first verdict", 180)
            fault = schedule.get(number)
            if fault in SERVERS:
                kill_server(stack, fault)
            elif fault:
                p.strike(dice.choice(victims[fault]))
        # What was sent at once is work for longer than a minute where it is much.
        patience = LAG_SECONDS if load.reviews <= 1_500 else 150 + load.reviews / 50
        p.wait(p.settled, "everything is done", patience)
        print(f"content {content_hash(expected)}; exits {p.exits}")
        p.verify(
            figures,
            f"{load}; {partitions} partitions, {instances} workers a stage",
            "SIGKILLs: " + ", ".join(f"{name} {count}" for name, count in sorted(Counter(kills).items())),
            expected,
            seed=load.seed,
            content=content_hash(expected)[:8],
            lag_seconds=patience,
        )
        died = sum(code == -signal.SIGKILL for _, code in p.exits)
        assert died == sum(name not in SERVERS for name in kills)


@pytest.mark.proof(1)
@pytest.mark.timeout(400)
def test_storm(own_stack: Stack, figures: Figures) -> None:
    load = Load(seed=SEED, reviews=1_500, calls=20)
    expected = undisturbed(own_stack, load, partitions=6)
    storm(own_stack, load, figures, partitions=6, instances=2, kills=FEW, expected=expected)


@pytest.mark.slow
@pytest.mark.proof(1)
@pytest.mark.timeout(5_400)
def test_long_storm(own_stack: Stack, figures: Figures) -> None:
    """20,000 records of reviews and calls, 16 kills of each stage and of each server. The patience grows with the load."""
    load = Load(seed=SEED, reviews=18_500, calls=80)
    expected = undisturbed(own_stack, load, partitions=16, seconds=1_200)
    storm(own_stack, load, figures, partitions=16, instances=4, kills=MANY, expected=expected)
