"""Test 5: the broker is killed or stopped, at once back or long away; workers that start meanwhile wait for it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from stack.stack import Stack
from tests.faults.chaos import ENTRY, Chaos, undisturbed
from tests.faults.load import Load
from tests.faults.results import Figures
from tests.faults.sending import reviews
from tests.workers.pipeline import STAGES

LOAD = Load(seed=5, reviews=200, calls=4)
AWAY_SECONDS = 70.0


def finish(p: Chaos, figures: Figures, expected: list[str], faults: str) -> None:
    p.wait(p.settled, "everything is done", 150)
    p.verify(figures, LOAD, faults, expected)


@pytest.mark.chaos
@pytest.mark.proof(5)
@pytest.mark.timeout(400)
def test_hard_restart(own_stack: Stack, figures: Figures) -> None:
    """A second worker of each stage starts while the broker is away, and waits for it."""
    expected = undisturbed(own_stack, LOAD)
    with Chaos(own_stack) as p:
        p.start()
        slices = LOAD.slices(p.topics, 4)
        p.send(next(slices))
        p.send(next(slices))
        p.wait(lambda: p.tend() or p.rows("SELECT 1 FROM ingest.verdicts LIMIT 1"), "work is going on")
        kill_broker(own_stack)
        late = [p.worker(stage, 1) for stage in STAGES]
        p.wait(lambda: p.tend() or all("worker.waits" in one.log.read_text() for one in late), "the late ones wait")
        own_stack.kafka.start()
        for items in slices:
            p.send(items)
        finish(p, figures, expected, "SIGKILL of the broker; a second worker of each stage starts while it is away")


@pytest.mark.chaos
@pytest.mark.proof(5)
@pytest.mark.timeout(200)
def test_a_broker_that_tells_its_topics_late(stack: Stack, figures: Figures) -> None:
    """The group's leader assigned nothing to anybody, because it saw no topic; it looks again, and all goes on."""
    with Chaos(stack) as p:
        p.expects_deaths = False
        reviewer = p.worker("reviewer", module=ENTRY, env={"FAULT_TOPICLESS": "1"})
        p.wait(lambda: "Ignoring missing topic" in reviewer.log.read_text(), "it assigns nothing")
        p.send(reviews(p, 0, 20))
        p.verify(figures, "20 reviews", "no topic is seen while the group's partitions are assigned")


def kill_broker(stack: Stack) -> None:
    """SIGKILL, with nothing left of it."""
    assert stack.kafka.pid is not None
    os.kill(stack.kafka.pid, signal.SIGKILL)
    stack.kafka.stop()


@pytest.mark.slow
@pytest.mark.proof(5)
@pytest.mark.timeout(2_400)
def test_five_absences(own_stack: Stack, figures: Figures) -> None:
    """Hard and clean in turn, each 70 s long; a second worker of each stage starts in the middle of the first."""
    expected = undisturbed(own_stack, LOAD)
    with Chaos(own_stack) as p:
        p.start()
        slices = LOAD.slices(p.topics, 6)
        p.send(next(slices))
        for number, items in enumerate(slices):
            p.wait(lambda: p.tend() or p.rows("SELECT 1 FROM ingest.verdicts LIMIT 1"), "work is going on")
            if number % 2 == 0:
                kill_broker(own_stack)
            else:
                own_stack.kafka.stop()
            back = time.monotonic() + AWAY_SECONDS
            if number == 0:
                for stage in STAGES:
                    p.worker(stage, 1)
            p.wait(lambda back=back: p.tend() or time.monotonic() > back, "the broker is away", AWAY_SECONDS + 5)  # type: ignore[misc]
            own_stack.kafka.start()
            p.send(items)
        finish(p, figures, expected, "5 times 70 s without the broker, killed or stopped")
