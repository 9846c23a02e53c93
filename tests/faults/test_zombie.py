"""A worker that is stopped with a batch in hand, loses its partitions and wakes up: its late write is refused."""

from __future__ import annotations

import signal

import psutil
import pytest

from stack.stack import Stack
from tests.faults.chaos import Chaos
from tests.faults.load import Load
from tests.faults.oracle import content
from tests.faults.results import Figures
from tests.workers.pipeline import STAGES
from tests.workers.worker import Worker


def stopped(worker: Worker) -> bool:
    return worker.pid is not None and psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED


@pytest.mark.proof(6)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", ["4:inferred", "5:written"])
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
        p.wait(p.settled, "the successors do everything", 200)
        before = content(p)
        for zombie in zombies.values():
            zombie.signal(signal.SIGCONT)
        late = p.rows("SELECT sum(epoch) FROM ingest.ledger")
        p.wait(lambda: p.rows("SELECT sum(epoch) FROM ingest.ledger") != late or p.exits or p.tend(), "they wake up")
        p.wait_until_settled(100)
        faults = f"SIGSTOP of a worker of each stage at {step}, SIGCONT when its successor was done"
        p.verify(figures, small, faults, small_content)
        assert content(p) == before
