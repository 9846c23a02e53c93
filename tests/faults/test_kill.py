"""Test 3, one death at a time: a reviewer that is killed once at a step, and every message it publishes counted."""

from __future__ import annotations

from collections import Counter

import pytest

from stack.stack import Stack
from tests.faults.chaos import Chaos
from tests.faults.ills import asked, noting
from tests.faults.load import Load
from tests.faults.results import Figures

REVIEWS = Load(seed=3, reviews=150, calls=0)
CALLS = Load(seed=3, reviews=0, calls=1)


@pytest.mark.proof(3)
@pytest.mark.timeout(200)
@pytest.mark.parametrize("step", ["4:inferred", "5:written", "5:committed"])
def test_killed_once(stack: Stack, figures: Figures, step: str) -> None:
    """At the fourth batch. Killed before the commit, that batch was not published; so nothing is published twice by it.
    Killed after it, nothing is asked of a model again."""
    with noting(stack.home, "aspects"), Chaos(stack, partitions=1, review_batch=16) as p:
        p.send(REVIEWS.items(p.topics))
        first = {"FAULT_NTH": "1"} if step == "5:written" else {"FAULT_NTH": "4"}
        p.doomed("reviewer", [{"FAULT_STEP": step, **first}], instance_id=f"{p.name}-reviewer")
        p.wait(lambda: p.settled() and p.exits, "everything is done", 90)
        p.verify(figures, REVIEWS, f"SIGKILL at {step}")
        if step == "5:written":
            told = Counter(dict(one.headers)["ce_id"] for one in p.records(p.topics.insights))
            assert set(told.values()) == {1}
        if step == "5:committed":
            texts = {text: times for text, times in asked(stack.home, "aspects").items() if text.endswith(")")}
            assert len(texts) == REVIEWS.reviews
            assert set(texts.values()) == {1}


@pytest.mark.proof(3)
@pytest.mark.timeout(200)
def test_a_segmenter_killed_between_kafka_and_postgres(stack: Stack, figures: Figures) -> None:
    """Utterances are in Kafka, the watermark is not moved: they come again, as the same utterances."""
    with Chaos(stack, partitions=1, audio_batch=64, batch_wait_seconds=2) as p:
        p.send(CALLS.items(p.topics))
        p.doomed("segmenter", [{"FAULT_STEP": "4:inferred"}], instance_id=f"{p.name}-segmenter")
        p.start(("transcriber", "summarizer"))
        p.wait(lambda: p.settled() and p.exits, "everything is done", 150)
        p.verify(figures, CALLS, "SIGKILL of the segmenter at 4:inferred")
        headers = [dict(one.headers) for one in p.records(p.topics.calls_utterances)]
        sent = Counter(one["utterance_id"] for one in headers if "utterance_id" in one)
        assert max(sent.values()) > 1, "the segmenter died too early to prove anything"
