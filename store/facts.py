"""Facts: what the models said, one row per thing and run. Within a run the first committed row wins.

A repeat writes nothing: ids come from content, the partition from the event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from store.fact_rows import (
    AspectMentionRow,
    Inference,
    ReviewRow,
    Source,
    SummaryRow,
    TranscriptLine,
    UtteranceRow,
)
from store.unnest import Insert

__all__ = [
    "AspectMentionRow",
    "Inference",
    "ReviewRow",
    "Source",
    "SummaryRow",
    "TranscriptLine",
    "UtteranceRow",
    "call_utterances",
    "finished_utterances",
    "insert_aspect_mentions",
    "insert_reviews",
    "insert_summaries",
    "insert_utterances",
]


_MADE = {
    "model": "text",
    "model_version": "text",
    "infer_ms": "float8",
    "queue_ms": "float8",
    "source_topic": "text",
    "source_topic_id": "uuid",
    "source_partition": "int4",
    "source_offset": "int8",
    "source_at": "timestamptz",
    "trace_id": "text",
}
_UTTERANCES = Insert(
    table="ingest.utterances",
    columns={
        "utterance_id": "uuid",
        "run_id": "uuid",
        "call_started_at": "timestamptz",
        "call_id": "text",
        "channel": "int4",
        "role": "text",
        "start_ms": "int8",
        "end_ms": "int8",
        "finish_reason": "text",
        "tokens": "int4",
        "mean_logprob": "float8",
        **_MADE,
    },
    key=("utterance_id", "run_id", "call_started_at"),
    # A closed call takes no more: call.closed has named its utterances.
    where="NOT EXISTS (SELECT 1 FROM ingest.call_runs c WHERE c.call_id = u.call_id AND c.run_id = u.run_id)",
    returning="t.utterance_id, t.run_id",
)
_UTTERANCE_TEXTS = Insert(
    table="pii.utterance_texts",
    columns={"utterance_id": "uuid", "run_id": "uuid", "call_started_at": "timestamptz", "text": "text"},
    key=("utterance_id", "run_id", "call_started_at"),
)
_MENTIONS = Insert(
    table="ingest.aspect_mentions",
    columns={
        "mention_id": "uuid",
        "run_id": "uuid",
        "subject_at": "timestamptz",
        "source": "text",
        "call_id": "text",
        "utterance_id": "uuid",
        "review_id": "text",
        "revision_id": "uuid",
        "product": "text",
        "span_start": "int4",
        "span_end": "int4",
        "aspect_text": "text",
        "aspect_id": "text",
        "polarity": "text",
        "sentiment": "float8",
        "p_negative": "float8",
        "p_neutral": "float8",
        "p_positive": "float8",
        "confidence": "float8",
        "occurred_at": "timestamptz",
        **_MADE,
    },
    key=("mention_id", "run_id", "subject_at"),
)
_SUMMARIES = Insert(
    table="ingest.summaries",
    columns={
        "call_id": "text",
        "run_id": "uuid",
        "call_started_at": "timestamptz",
        "method": "text",
        "evidence": "jsonb",
        **_MADE,
    },
    key=("call_id", "run_id", "call_started_at"),
    returning="t.call_id, t.run_id",
)
_SUMMARY_TEXTS = Insert(
    table="pii.summary_texts",
    columns={
        "call_id": "text",
        "run_id": "uuid",
        "call_started_at": "timestamptz",
        "issue": "text",
        "outcome": "text",
        "actions": "jsonb",
        "summary": "text",
    },
    key=("call_id", "run_id", "call_started_at"),
)
_REVIEWS = Insert(
    table="ingest.reviews",
    columns={
        "revision_id": "uuid",
        "run_id": "uuid",
        "created_at": "timestamptz",
        "review_id": "text",
        "version": "int8",
        "product": "text",
        "rating": "float8",
        "language": "text",
        "aspects": "int4",
        "state": "text",
        **_MADE,
    },
    key=("revision_id", "run_id", "created_at"),
    returning="t.revision_id, t.run_id",
)
_REVIEW_TEXTS = Insert(
    table="pii.review_texts",
    columns={
        "revision_id": "uuid",
        "run_id": "uuid",
        "created_at": "timestamptz",
        "review_id": "text",
        "text": "text",
        "author": "text",
    },
    key=("revision_id", "run_id", "created_at"),
)


async def insert_utterances(conn: AsyncConnection, rows: Sequence[UtteranceRow]) -> None:
    """Write utterances with their text; none for a call that is closed in the run."""
    await _with_text(conn, _UTTERANCES, _UTTERANCE_TEXTS, [_flat(r) for r in rows])


async def insert_aspect_mentions(conn: AsyncConnection, rows: Sequence[AspectMentionRow]) -> None:
    """Write aspect mentions."""
    await _MENTIONS.run(conn, [_flat(r) for r in rows])


async def insert_summaries(conn: AsyncConnection, rows: Sequence[SummaryRow]) -> None:
    """Write summaries with their words."""
    await _with_text(conn, _SUMMARIES, _SUMMARY_TEXTS, [_flat(r) for r in rows])


async def insert_reviews(conn: AsyncConnection, rows: Sequence[ReviewRow]) -> None:
    """Write revisions of reviews with their text; `store.reviews.advance_heads` must have accepted them."""
    await _with_text(conn, _REVIEWS, _REVIEW_TEXTS, [_flat(r) for r in rows])


async def finished_utterances(conn: AsyncConnection, run_id: UUID, started: Mapping[UUID, datetime]) -> set[UUID]:
    """Which of these utterances are done in the run: transcribed, empty, or a dead letter of the transcriber.

    `started` says when each one's call began, which picks the partitions that are read. Dead letters count by subject_id =
    the utterance's id.
    """
    if not started:
        return set()
    wanted = sorted(started)
    found = await conn.execute(
        sa.text(
            "SELECT utterance_id FROM ingest.utterances"
            " WHERE run_id = :run_id AND utterance_id = ANY(CAST(:ids AS uuid[]))"
            " AND call_started_at BETWEEN :first AND :last"
            " UNION SELECT CAST(subject_id AS uuid) FROM ingest.dead_letters"
            " WHERE run_id = :run_id AND stage = 'transcriber' AND subject_id = ANY(CAST(:names AS text[]))"
        ),
        {
            "run_id": run_id,
            "ids": wanted,
            "names": [str(i) for i in wanted],
            "first": min(started.values()),
            "last": max(started.values()),
        },
    )
    return {r.utterance_id for r in found}


async def call_utterances(conn: AsyncConnection, run_id: UUID, call_id: str) -> list[TranscriptLine]:
    """Utterances of a call in a run, with text, in the order of time."""
    found = await conn.execute(
        sa.text(
            "SELECT u.utterance_id, u.role, u.start_ms, t.text FROM ingest.utterances u"
            " JOIN pii.utterance_texts t USING (utterance_id, run_id, call_started_at)"
            " WHERE u.call_id = :call_id AND u.run_id = :run_id"
            # the start of the call picks the partition
            " AND u.call_started_at = (SELECT call_started_at FROM ingest.calls WHERE call_id = :call_id)"
            " ORDER BY u.start_ms, u.channel, u.end_ms, u.utterance_id"
        ),
        {"call_id": call_id, "run_id": run_id},
    )
    return [TranscriptLine(**r._mapping) for r in found]


async def _with_text(conn: AsyncConnection, facts: Insert, texts: Insert, rows: list[dict[str, object]]) -> None:
    """Write facts, then the text of those that are new: of the same row, should a batch hold a key twice."""
    new = {tuple(r) for r in await facts.run(conn, rows)}
    await texts.run(conn, [r for r in rows if (r[facts.key[0]], r[facts.key[1]]) in new])


def _flat(row: UtteranceRow | AspectMentionRow | SummaryRow | ReviewRow) -> dict[str, object]:
    values: dict[str, object] = {f.name: getattr(row, f.name) for f in fields(row)}
    record = row.record if isinstance(row, AspectMentionRow) else row.source
    made = row.inference
    values.update(
        model=made.model,
        model_version=made.model_version,
        infer_ms=made.infer_ms,
        queue_ms=made.queue_ms,
        source_topic=record.topic,
        source_topic_id=record.topic_id,
        source_partition=record.partition,
        source_offset=record.offset,
        source_at=record.at,
    )
    return values
