"""A worker of each stage dies at every step, once each: nothing is lost, nothing is twice."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest

from stack.stack import Stack
from stream.events import Topics
from tests.faults.chaos import Chaos, undisturbed
from tests.faults.ills import asked, noting
from tests.faults.load import Item, Load
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


SEED, PARTITIONS, WORKERS, SLICES, BATCH = 33, 6, 3, 16, 8
TALKERS = 3
#: A worker dies when it comes to its step for the nth time, at most this one: so it dies amid work, not at its start only.
LATEST = {"segmenter": 4, "transcriber": 2, "summarizer": 1, "reviewer": 6}


class InTurn(Load):
    """A load whose calls follow one another, some at a time, so that calls are complete all along and not at its end."""

    def items(self, topics: Topics) -> list[Item]:
        items = Load.items(self, topics)
        places = [place for place, item in enumerate(items) if item.subject.startswith("call-")]
        called = [items[place] for place in places]
        # Stable, so that a call keeps its order.
        called.sort(key=lambda item: int(item.subject.removeprefix("call-")) // TALKERS)
        for place, item in zip(places, called, strict=True):
            items[place] = item
        return items


SPOKEN = InTurn(seed=SEED, reviews=0, calls=24, call_ms=6_000)
WRITTEN = InTurn(seed=SEED, reviews=500, calls=0, poison=0.006)  # three, of which none is audio


@pytest.fixture(scope="module")
def content_of(stack: Stack) -> Callable[[Load], list[str]]:
    """Content of a load without faults."""
    return cache(lambda load: undisturbed(stack, load, stages_for(load), partitions=PARTITIONS, seconds=600))


def stages_for(load: Load) -> tuple[str, ...]:
    return STAGES[:-1] if load.calls else STAGES[-1:]


@pytest.mark.slow
@pytest.mark.proof(3)
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("stage", STAGES)
def test_each_death_beside_two_others_under_load(
    stack: Stack, figures: Figures, content_of: Callable[[Load], list[str]], stage: str
) -> None:
    """Three workers of the stage share six partitions, and records arrive as long as they die. One of the three dies at each
    of the eight places, before and after every step and inside COMMIT (the seed says who, where and when); the other two go
    on and get its partitions. They are no static members: each death is a handover, and another when it comes back.

    Then the oracle is asked, the content is that of an undisturbed run, and no review was asked of the model more often than
    the handovers explain: one batch for each time that a partition was taken over. Eight deaths, of which four leave an
    attempt behind, are too few to make any record a dead letter.
    """
    load, dice = (WRITTEN if stage == "reviewer" else SPOKEN), random.Random(f"{SEED} {stage}")
    expected = content_of(load)
    batches = {"audio_batch": BATCH, "utterance_batch": 4, "call_batch": 2, "review_batch": BATCH}
    with noting(stack.home, "aspects"), Chaos(stack, partitions=PARTITIONS, **batches) as p:
        steps = dice.sample(STEPS, len(STEPS))
        fates = [{"FAULT_STEP": step, "FAULT_NTH": str(dice.randint(1, LATEST[stage]))} for step in steps]
        for number in range(WORKERS):
            p.doomed(stage, fates[number::WORKERS], number)
        p.start([one for one in stages_for(load) if one != stage])
        deaths = p.unmet()
        assert deaths == len(STEPS)
        for number, items in enumerate(load.slices(p.topics, SLICES)):
            p.send(items)
            # Not all at once: what is sent keeps step with the deaths, unless those who are to die have nothing to do.
            due = deaths * number // SLICES
            p.wait(lambda due=due: p.tend() or deaths - p.unmet() >= due or p.settled(), "the next part is due", 300)  # type: ignore[misc]
        p.wait(lambda: p.settled() and not p.unmet(), "everything is done, and everybody has died", 600)
        texts = {text: times for text, times in asked(stack.home, "aspects").items() if text.endswith(")")}
        again = sum(texts.values()) - load.reviews
        taken_over = p.one("SELECT sum(epoch - 1)::int FROM ingest.ledger WHERE stage = %s", stage)
        p.verify(
            figures,
            f"{load}; {PARTITIONS} partitions, {WORKERS} {stage}s",
            f"{deaths} SIGKILLs of {stage}s, at {len(STEPS)} places, while records arrive",
            expected,
            seed=SEED,
            partitions_taken_over=taken_over,
            reviews_asked_again=again,
        )
        assert [code for name, code in p.exits if name.split("-")[1] == stage].count(-signal.SIGKILL) == deaths
        assert taken_over >= deaths, "its partitions went to others"
        assert len(texts) == load.reviews
        assert again <= taken_over * BATCH
