"""The facts: utterances, aspect mentions, summaries and reviews, partitioned by month (UTC).

The partition column is the start of the call or the creation of the review. Both come from the event and never
change, so a repeat lands in the same partition and meets its own key. Text lies beside each fact in schema `pii`.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from store.columns import AWARE, COMMITTED, column, define

__all__ = [
    "PARTITIONED",
    "aspect_mentions",
    "review_texts",
    "reviews",
    "summaries",
    "summary_texts",
    "utterance_texts",
    "utterances",
]


def _provenance() -> list[sa.Column[object]]:
    return [
        column("source_topic", sa.Text, "Kafka topic of the record this row was made from"),
        column("source_topic_id", sa.Uuid, "Kafka's id of that topic"),
        column("source_partition", sa.Integer, "Partition of that record, from 0"),
        column("source_offset", sa.BigInteger, "Offset of that record, from 0"),
        column("source_at", AWARE, "Kafka's timestamp of that record"),
        column("trace_id", sa.Text, "W3C trace id, 32 hex digits", nullable=True),
        column("committed_at", AWARE, "Instant at which the row was written", server_default=COMMITTED),
    ]


def _timings(
    infer: str = "Time the model computed, ms, >= 0", queue: str = "Time the request waited for the model, ms, >= 0"
) -> list[sa.Column[object]]:
    return [
        column("model", sa.Text, "Name of the model"),
        column("model_version", sa.Text, "Version of the model's weights and code"),
        column("infer_ms", sa.Double, infer),
        column("queue_ms", sa.Double, queue),
    ]


#: Of two models that are asked one after the other, and for many texts at once.
_ROUND_TRIPS = (
    "Time of the round trips to both models, waiting for them included, ms, >= 0",
    "Always 0: the wait is part of infer_ms",
)


utterances = define(
    "utterances",
    column("utterance_id", sa.Uuid, "uuid5 of call, channel, first sample and cut version", primary_key=True),
    column("run_id", sa.Uuid, "Run that transcribed it", primary_key=True),
    column("call_started_at", AWARE, "Start of the call; partition column", primary_key=True),
    column("call_id", sa.Text, "The producer's id of the call"),
    column("channel", sa.Integer, "Channel, from 0"),
    column("role", sa.Text, "customer, agent or unknown, as the producer declared"),
    column("start_ms", sa.BigInteger, "Start, ms from the start of the call"),
    column("end_ms", sa.BigInteger, "End, ms from the start of the call; at most 30,000 after start_ms"),
    column("finish_reason", sa.Text, "stop, length, no_speech, repetition or loop"),
    column("tokens", sa.Integer, "Tokens the model wrote, >= 0"),
    column("mean_logprob", sa.Double, "Mean log probability of the tokens, <= 0; null if unknown", nullable=True),
    *_timings(),
    *_provenance(),
    sa.CheckConstraint("start_ms >= 0 AND end_ms >= start_ms", name="times"),
    sa.Index(None, "call_id", "run_id"),
    comment="One row per utterance and run. The text is in pii.utterance_texts.",
    postgresql_partition_by="RANGE (call_started_at)",
)

utterance_texts = define(
    "utterance_texts",
    column("utterance_id", sa.Uuid, "Row of ingest.utterances", primary_key=True),
    column("run_id", sa.Uuid, "Run", primary_key=True),
    column("call_started_at", AWARE, "Start of the call; partition column", primary_key=True),
    column("text", sa.Text, "What was said; empty if nothing was recognised"),
    sa.Column(
        "text_search",
        pg.TSVECTOR,
        sa.Computed("to_tsvector('english'::regconfig, text)", persisted=True),
        comment="The text for full-text search, English stemming",
    ),
    sa.Index(None, "text_search", postgresql_using="gin"),
    schema="pii",
    comment="Text of each utterance and run.",
    postgresql_partition_by="RANGE (call_started_at)",
)

aspect_mentions = define(
    "aspect_mentions",
    column("mention_id", sa.Uuid, "uuid5 of the subject and the span", primary_key=True),
    column("run_id", sa.Uuid, "Run", primary_key=True),
    column("subject_at", AWARE, "Start of the call or creation of the review; partition column", primary_key=True),
    column("source", sa.Text, "utterance or review"),
    column("call_id", sa.Text, "The call, if source is utterance", nullable=True),
    column("utterance_id", sa.Uuid, "The utterance, if source is utterance", nullable=True),
    column("review_id", sa.Text, "The review, if source is review", nullable=True),
    column("revision_id", sa.Uuid, "The revision of the review, if source is review", nullable=True),
    column("product", sa.Text, "Product of the call or review", nullable=True),
    column("span_start", sa.Integer, "First character of the aspect in the text, from 0"),
    column("span_end", sa.Integer, "Character after the aspect's last one"),
    column("aspect_text", sa.Text, "The aspect as it was said or written"),
    column("aspect_id", sa.Text, "The aspect in the taxonomy of the run"),
    column("polarity", sa.Text, "negative, neutral or positive: the likeliest"),
    column("sentiment", sa.Double, "p_positive - p_negative, -1..1"),
    column("p_negative", sa.Double, "Calibrated probability, 0..1"),
    column("p_neutral", sa.Double, "Calibrated probability, 0..1"),
    column("p_positive", sa.Double, "Calibrated probability, 0..1"),
    column("confidence", sa.Double, "Confidence that the span is an aspect, 0..1"),
    column("occurred_at", AWARE, "Instant at which it was said or written"),
    *_timings(*_ROUND_TRIPS),
    *_provenance(),
    sa.CheckConstraint("polarity IN ('negative', 'neutral', 'positive')", name="polarity"),
    sa.CheckConstraint("sentiment BETWEEN -1 AND 1", name="sentiment"),
    sa.CheckConstraint("span_start >= 0 AND span_end > span_start", name="span"),
    sa.CheckConstraint(
        "(source = 'utterance' AND call_id IS NOT NULL AND utterance_id IS NOT NULL AND review_id IS NULL)"
        " OR (source = 'review' AND review_id IS NOT NULL AND revision_id IS NOT NULL AND call_id IS NULL)",
        name="source",
    ),
    sa.Index(None, "call_id", "run_id"),
    sa.Index(None, "review_id"),
    comment="One row per aspect mentioned in an utterance or a review, and run.",
    postgresql_partition_by="RANGE (subject_at)",
)

summaries = define(
    "summaries",
    column("call_id", sa.Text, "The producer's id of the call", primary_key=True),
    column("run_id", sa.Uuid, "Run", primary_key=True),
    column("call_started_at", AWARE, "Start of the call; partition column", primary_key=True),
    column(
        "method",
        sa.Text,
        "How it was made: extractive-v1 (quotations), phi4-json-v1 or phi4-text-v1 (written by the model)",
    ),
    column("evidence", pg.JSONB, "Which utterances support what: [{field, utterance_ids}]"),
    *_timings(),
    *_provenance(),
    comment="One row per call and run. The words are in pii.summary_texts.",
    postgresql_partition_by="RANGE (call_started_at)",
)

summary_texts = define(
    "summary_texts",
    column("call_id", sa.Text, "The producer's id of the call", primary_key=True),
    column("run_id", sa.Uuid, "Run", primary_key=True),
    column("call_started_at", AWARE, "Start of the call; partition column", primary_key=True),
    column("issue", sa.Text, "Why the customer called; null if not found", nullable=True),
    column("outcome", sa.Text, "How it ended; null if not found", nullable=True),
    column("actions", pg.JSONB, "What was promised: a list of sentences"),
    column("summary", sa.Text, "The call in a few sentences"),
    schema="pii",
    comment="Words of each summary and run.",
    postgresql_partition_by="RANGE (call_started_at)",
)

reviews = define(
    "reviews",
    column("revision_id", sa.Uuid, "uuid5 of review, topic id and original offset", primary_key=True),
    column("run_id", sa.Uuid, "Run", primary_key=True),
    column("created_at", AWARE, "Creation of the review as the producer says; partition column", primary_key=True),
    column("review_id", sa.Text, "The producer's id of the review"),
    column("version", sa.BigInteger, "The producer's version; null if it gives none", nullable=True),
    column("product", sa.Text, "Product the review is about", nullable=True),
    column("rating", sa.Double, "The author's rating, on the producer's scale", nullable=True),
    column("language", sa.Text, "BCP 47 tag, as the producer says", nullable=True),
    column("aspects", sa.Integer, "Aspects found in it, >= 0"),
    *_timings(*_ROUND_TRIPS),
    *_provenance(),
    column(
        "state",
        sa.Text,
        "analysed, or unsupported_language: its text is not English, so no aspect was looked for",
        server_default="analysed",
    ),
    sa.CheckConstraint("state IN ('analysed', 'unsupported_language')", name="state"),
    sa.Index(None, "review_id"),
    comment="One row per revision of a review and run. The text is in pii.review_texts.",
    postgresql_partition_by="RANGE (created_at)",
)

review_texts = define(
    "review_texts",
    column("revision_id", sa.Uuid, "Row of ingest.reviews", primary_key=True),
    column("run_id", sa.Uuid, "Run", primary_key=True),
    column("created_at", AWARE, "Creation of the review; partition column", primary_key=True),
    column("review_id", sa.Text, "The producer's id of the review"),
    column("text", sa.Text, "What the author wrote"),
    column("author", sa.Text, "The author as the producer names them", nullable=True),
    sa.Index(None, "review_id"),
    schema="pii",
    comment="Text of each revision of a review and run.",
    postgresql_partition_by="RANGE (created_at)",
)

PARTITIONED: tuple[sa.Table, ...] = (
    utterances,
    utterance_texts,
    aspect_mentions,
    summaries,
    summary_texts,
    reviews,
    review_texts,
)
