"""Facts as the workers hand them over; store.facts writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

__all__ = [
    "AspectMentionRow",
    "Inference",
    "ReviewRow",
    "Source",
    "SummaryRow",
    "TranscriptLine",
    "UtteranceRow",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The Kafka record a row was made from; `at` is its timestamp (aware)."""

    topic: str
    topic_id: UUID
    partition: int
    offset: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """Who computed a row and how long it took, ms."""

    model: str
    model_version: str
    infer_ms: float
    queue_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceRow:
    """One utterance in one run; times in ms from the start of the call."""

    utterance_id: UUID
    run_id: UUID
    call_id: str
    call_started_at: datetime
    channel: int
    role: str
    start_ms: int
    end_ms: int
    text: str
    finish_reason: str
    tokens: int
    mean_logprob: float | None
    inference: Inference
    source: Source
    trace_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectMentionRow:
    """One aspect in an utterance (call_id, utterance_id) or a review (review_id, revision_id), in one run.

    `subject_at`: start of the call or creation of the review. Span in characters of the text, probabilities 0..1,
    sentiment -1..1.
    """

    mention_id: UUID
    run_id: UUID
    subject_at: datetime
    source: Literal["utterance", "review"]
    span_start: int
    span_end: int
    aspect_text: str
    aspect_id: str
    polarity: Literal["negative", "neutral", "positive"]
    sentiment: float
    p_negative: float
    p_neutral: float
    p_positive: float
    confidence: float
    occurred_at: datetime
    inference: Inference
    record: Source
    call_id: str | None = None
    utterance_id: UUID | None = None
    review_id: str | None = None
    revision_id: UUID | None = None
    product: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """The summary of one call in one run; evidence: [{"field": ..., "utterance_ids": [...]}]."""

    call_id: str
    run_id: UUID
    call_started_at: datetime
    method: str
    issue: str | None
    outcome: str | None
    actions: Sequence[object]
    summary: str
    evidence: Sequence[Mapping[str, object]]
    inference: Inference
    source: Source
    trace_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRow:
    """One revision of a review in one run; revision_id from store.reviews.revision_id."""

    revision_id: UUID
    run_id: UUID
    review_id: str
    created_at: datetime
    text: str
    aspects: int
    inference: Inference
    source: Source
    version: int | None = None
    product: str | None = None
    rating: float | None = None
    language: str | None = None
    author: str | None = None
    trace_id: str | None = None
    state: Literal["analysed", "unsupported_language"] = "analysed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptLine:
    """What the summarizer reads of an utterance; `role` is customer, agent or unknown, `start_ms` counts from the call's start."""

    utterance_id: UUID
    role: str
    start_ms: int
    text: str
