"""EARFUL_INSTANCE_ID: a worker that was killed and comes back gets its partitions at once, not after the session's time-out."""

from __future__ import annotations

import time

from stack.stack import Stack
from tests.workers.pipeline import Pipeline
from tests.workers.sending import messages, review

SESSION_SECONDS = 60


def test_a_worker_that_comes_back_need_not_be_missed_first(stack: Stack) -> None:
    """Without the id Kafka would wait for the killed one for the whole time-out before it gives anybody its partitions."""
    with Pipeline(stack, session_timeout_seconds=SESSION_SECONDS) as p:

        def analysed(name: str) -> None:
            p.produce(messages(p.topics, [review(f"{name}-{number}", "Good.") for number in range(6)]))
            query = "SELECT count(*) FROM ingest.reviews WHERE starts_with(review_id, %s)"
            p.wait(lambda: p.one(query, name) == 6, f"the reviews {name}", SESSION_SECONDS / 2)

        first = p.worker("reviewer", instance_id=f"{p.name}-r")
        analysed("before")
        p.expects_deaths = True
        first.kill()
        killed = time.monotonic()
        p.worker("reviewer", 1, instance_id=f"{p.name}-r")
        analysed("after")
        assert time.monotonic() - killed < SESSION_SECONDS / 2
