"""Test 2: the record at the head is slow, those behind it are quick, and the worker is killed after a commit interval."""

from __future__ import annotations

import time

import pytest

from stack.stack import Stack
from tests.faults.chaos import Chaos
from tests.faults.ills import ailing, asked, noting
from tests.faults.results import Figures
from tests.faults.sending import reviews

SLOW = "turtle"
#: faust commits what is acknowledged every second.
COMMIT_SECONDS = 2.0


def committed(p: Chaos) -> int:
    """What Kafka believes to be done of partition 0."""
    return max([0, *p.acknowledged(["reviewer"]).values()])


@pytest.mark.chaos
@pytest.mark.proof(2)
@pytest.mark.timeout(200)
@pytest.mark.parametrize("where", ["middle", "fresh", "revoked"])
def test_nothing_overtakes_the_head(stack: Stack, figures: Figures, where: str) -> None:
    """`fresh`: k is the first record of its partition. `revoked`: a second worker joins while k is in hand."""
    with noting(stack.home, "aspects"), Chaos(stack, partitions=1, review_batch=1) as p:
        first = p.worker("reviewer", batch_deadline_seconds=60)
        done = 0 if where == "fresh" else 10
        p.send(reviews(p, 0, done))
        p.wait(lambda: p.lag("reviewer") == 0 and p.one("SELECT count(*) FROM ingest.ledger"), "a quiet partition")
        p.wait(lambda: committed(p) == done, "Kafka knows it, too")
        with ailing(stack.home, "aspects", "slow", seconds=8, **{"if": SLOW}):
            p.send(reviews(p, done, 1, SLOW) + reviews(p, done + 1, 10))
            p.wait(lambda: any(SLOW in text for text in asked(stack.home, "aspects")), "the head is in hand")
            if where == "revoked":
                p.worker("reviewer", 1)
            until = time.monotonic() + COMMIT_SECONDS
            p.wait(lambda: time.monotonic() > until, "a commit interval passes")
            assert committed(p) == done
            p.expects_deaths = True
            first.kill()
        p.wait(lambda: p.tend() or p.settled(), "everything is done", 90)
        load = f"{done} reviews, 1 that takes 8 s, 10 behind it"
        p.verify(figures, load, "SIGKILL after a commit interval")
