"""A worker that is stopped with a batch in hand, loses its partitions and wakes up: its late write is refused."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import psutil
import pytest

from stack.stack import Stack
from tests.faults.chaos import Chaos
from tests.faults.load import Load
from tests.faults.oracle import content
from tests.faults.results import Figures
from tests.faults.sending import arrivals
from tests.workers.pipeline import STAGES
from tests.workers.worker import Worker

STEPS = ("4:inferred", "5:written")
ZOMBIES, RATE, BATCH = 10, 40, 16
#: Two session timeouts of the workers here.
STOPPED_SECONDS = 12.0


def stopped(worker: Worker) -> bool:
    return worker.pid is not None and psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED


def assignments(worker: Worker) -> int:
    return worker.log.read_text().count("partitions.assigned")


def awake(zombie: Worker, seen: int) -> bool:
    """It left, or has partitions anew: its late write is behind it."""
    return zombie.returncode is not None or assignments(zombie) > seen


@pytest.mark.proof(6)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", [STEPS[0], pytest.param(STEPS[1], marks=pytest.mark.chaos)])
def test_a_zombie_of_each_stage(
    stack: Stack, small: Load, small_content: list[str], figures: Figures, step: str
) -> None:
    """The stopped worker's batch is done by its successor; with 5:written it also holds the ledger's row, for a while."""
    with Chaos(stack, audio_batch=16, utterance_batch=4, review_batch=16) as p:
        zombies = {
            stage: p.doomed(stage, [{"FAULT_STEP": step, "FAULT_SIGNAL": "STOP", "FAULT_NTH": "2"}]) for stage in STAGES
        }
        p.send(small.items(p.topics))
        for stage in STAGES:
            p.wait(lambda stage=stage: stopped(zombies[stage]), f"the {stage} stops")  # type: ignore[misc]
            p.worker(stage, 1)  # takes over when the session times out: after 6 s
        until = time.monotonic() + STOPPED_SECONDS
        p.wait(lambda: p.settled() and time.monotonic() > until, "the successors do everything", 200)
        before = content(p)
        asleep = {zombie: assignments(zombie) for zombie in zombies.values()}
        for zombie in asleep:
            zombie.signal(signal.SIGCONT)
        p.disturbed()
        p.wait(
            lambda: all(awake(zombie, seen) for zombie, seen in asleep.items()), "they have done what they wanted to"
        )
        p.wait_until_settled(100)
        faults = f"SIGSTOP of a worker of each stage at {step}, SIGCONT when its successor was done"
        p.verify(figures, small, faults, small_content)
        assert content(p) == before


@pytest.mark.slow
@pytest.mark.proof(6)
@pytest.mark.timeout(900)
def test_ten_zombies_under_load(stack: Stack, figures: Figures) -> None:
    """Each one's successor is the next zombie; before its commit or inside it, in turn. Records arrive all the time."""
    with Chaos(stack, partitions=2, review_batch=BATCH) as p:
        traffic = arrivals(p, RATE, 800)

        def until(holds: Callable[[], object], what: str) -> None:
            for _ in traffic:
                if holds():
                    return
            raise AssertionError(f"never: {what}\n{p.report()}")

        def fated(number: int) -> Worker:
            fate = {"FAULT_STEP": STEPS[number % 2], "FAULT_SIGNAL": "STOP", "FAULT_NTH": "100"}
            return p.doomed("reviewer", [fate], number)

        def done() -> int:
            total: int = p.one("SELECT coalesce(sum(next_offset), 0)::int FROM ingest.ledger")
            return total

        zombie, codes = fated(0), []
        for number in range(1, ZOMBIES + 1):
            until(lambda: stopped(zombie), f"zombie {number} stops")  # noqa: B023 - asked at once
            heir, before, over = fated(number), done(), time.monotonic() + STOPPED_SECONDS
            until(lambda: done() > before + 2 * BATCH and time.monotonic() > over, "its successor works")  # noqa: B023
            seen = assignments(zombie)
            zombie.signal(signal.SIGCONT)
            until(lambda seen=seen: awake(zombie, seen), "it wakes up")  # type: ignore[misc]  # noqa: B023
            p.workers.remove(zombie)
            codes.append(zombie.stop())
            zombie = heir
        # The last one meets its fate, too; nobody takes over from it.
        p.wait(lambda: zombie.signal(signal.SIGCONT) or p.settled(), "everything is done", 120)  # type: ignore[func-returns-value]
        p.verify(
            figures, f"{RATE} reviews/s, {len(p.manifest.entries)} in all", f"{ZOMBIES} SIGSTOPs", left=codes.count(75)
        )
        assert set(codes) <= {0, 75}, codes
