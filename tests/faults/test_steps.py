"""A worker of each stage dies at every step, once each: nothing is lost, nothing is twice."""

from __future__ import annotations

from collections import Counter

import pytest

from stack.stack import Stack
from tests.faults.chaos import Chaos
from tests.faults.load import Load
from tests.faults.results import Figures
from tests.workers.pipeline import STAGES

#: Deaths after the commit come in between, so that no record is in hand when five workers die one after the other:
#: that would make it a dead letter. One partition, so that each death strikes the same head.
STEPS = ("4:inferred", "5:committed", "1:taken", "5:advanced", "5:commit", "2:dropped", "5:written", "6:acknowledged")


@pytest.mark.proof(3)
@pytest.mark.timeout(400)
def test_death_between_each_pair_of_steps_and_inside_commit(
    stack: Stack, small: Load, small_content: list[str], figures: Figures
) -> None:
    with Chaos(stack, partitions=1, audio_batch=16, utterance_batch=4, review_batch=16) as p:
        for stage in STAGES:
            # A static member comes back to its partitions at once; few calls must do for eight deaths of the summarizer.
            few = {"call_batch": 1} if stage == "summarizer" else {}
            p.doomed(stage, [{"FAULT_STEP": step} for step in STEPS], instance_id=f"{p.name}-{stage}", **few)
        for items in small.slices(p.topics, 2 * len(STEPS)):
            p.send(items)
            p.tend()

        p.wait(p.settled, "everything is done", 280)
        p.wait(
            lambda: p.tend() or len(p.exits) >= len(STAGES) * len(STEPS), "the last one dies after its last record", 10
        )
        p.wait_until_settled()
        deaths = Counter(name.split("-")[1] for name, _ in p.exits)
        faults = f"{len(p.exits)} SIGKILLs, at {len(STEPS)} places in each of {len(STAGES)} stages"
        p.verify(figures, small, faults, small_content)
        assert deaths == dict.fromkeys(STAGES, len(STEPS))
