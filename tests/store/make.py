"""Rows for tests: a few calls and reviews, with what each test does not care about filled in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_OID, UUID, uuid5

from store.calls import Call
from store.dead_letters import DeadLetter
from store.facts import AspectMentionRow, Inference, ReviewRow, Source, SummaryRow, UtteranceRow
from store.reviews import revision_id

START = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
TOPIC = uuid5(NAMESPACE_OID, "topic")
RUN = uuid5(NAMESPACE_OID, "run")


def ident(name: str) -> UUID:
    return uuid5(NAMESPACE_OID, name)


def source(offset: int = 0, topic: str = "calls.utterances.v1", at: datetime = START) -> Source:
    return Source(topic=topic, topic_id=TOPIC, partition=0, offset=offset, at=at)


INFERENCE = Inference(model="m", model_version="1", infer_ms=12.5, queue_ms=0.5)


def call(call_id: str = "c1", **changes: object) -> Call:
    values: dict[str, object] = {
        "call_id": call_id,
        "call_started_at": START,
        "channels": 2,
        "roles": ("customer", "agent"),
        "topic_id": TOPIC,
        "partition": 0,
        "state": "streaming",
    }
    return Call(**{**values, **changes})  # type: ignore[arg-type]


def utterance(name: str = "u1", **changes: object) -> UtteranceRow:
    values: dict[str, object] = {
        "utterance_id": ident(name),
        "run_id": RUN,
        "call_id": "c1",
        "call_started_at": START,
        "channel": 0,
        "role": "customer",
        "start_ms": 0,
        "end_ms": 1000,
        "text": f"text of {name}",
        "finish_reason": "stop",
        "tokens": 3,
        "mean_logprob": -0.25,
        "inference": INFERENCE,
        "source": source(),
    }
    return UtteranceRow(**{**values, **changes})  # type: ignore[arg-type]


def mention(name: str, polarity: str = "negative", **changes: object) -> AspectMentionRow:
    p = {"negative": (0.8, 0.1, 0.1), "neutral": (0.1, 0.8, 0.1), "positive": (0.1, 0.1, 0.8)}[polarity]
    values: dict[str, object] = {
        "mention_id": ident(name),
        "run_id": RUN,
        "subject_at": START,
        "source": "utterance",
        "span_start": 0,
        "span_end": 4,
        "aspect_text": "text",
        "aspect_id": "battery",
        "polarity": polarity,
        "sentiment": p[2] - p[0],
        "p_negative": p[0],
        "p_neutral": p[1],
        "p_positive": p[2],
        "confidence": 0.9,
        "occurred_at": START,
        "inference": INFERENCE,
        "record": source(),
    }
    if "review_id" not in changes:
        values.update(call_id="c1", utterance_id=ident("u1"))
    else:
        values["source"] = "review"
    return AspectMentionRow(**{**values, **changes})  # type: ignore[arg-type]


def summary(call_id: str = "c1", **changes: object) -> SummaryRow:
    values: dict[str, object] = {
        "call_id": call_id,
        "run_id": RUN,
        "call_started_at": START,
        "method": "extractive-v1",
        "issue": "It is broken",
        "outcome": "A new one is sent",
        "actions": ["Send a new one"],
        "summary": "Broken; replaced.",
        "evidence": [{"field": "issue", "utterance_ids": [str(ident("u1"))]}],
        "inference": INFERENCE,
        "source": source(topic="calls.transcribed.v1"),
    }
    return SummaryRow(**{**values, **changes})  # type: ignore[arg-type]


def review(review_id: str = "r1", offset: int = 0, **changes: object) -> ReviewRow:
    values: dict[str, object] = {
        "revision_id": revision_id(review_id, TOPIC, offset),
        "run_id": RUN,
        "review_id": review_id,
        "created_at": START,
        "text": f"text of {review_id}",
        "aspects": 1,
        "inference": INFERENCE,
        "source": source(offset, "reviews.submitted.v1"),
        "product": "phone",
        "author": "A. Person",
    }
    return ReviewRow(**{**values, **changes})  # type: ignore[arg-type]


def letter(offset: int = 0, **changes: object) -> DeadLetter:
    values: dict[str, object] = {
        "stage": "reviewer",
        "run_id": RUN,
        "topic": "reviews.submitted.v1",
        "topic_id": TOPIC,
        "partition": 0,
        "offset": offset,
        "key": b"r1",
        "value": b"\xff\x00",
        "headers": [("a", b"1"), ("a", b"\xfe")],
        "reason": "invalid_utf8",
        "detail": "byte 0",
        "subject_id": "r1",
    }
    return DeadLetter(**{**values, **changes})  # type: ignore[arg-type]


def later(**delta: float) -> datetime:
    return START + timedelta(**delta)
