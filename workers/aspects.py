"""Aspects and their polarity for a text: the one path that reviews and calls share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Literal
from uuid import UUID, uuid5

from errors import Permanent
from store.facts import AspectMentionRow, Source
from store.facts import Inference as Made
from stream.ids import NAMESPACE
from workers.deadline import Deadline
from workers.inference import AspectSpan, Inference, Polarity

__all__ = ["Found", "Mention", "Subject", "aspects_body", "find_mentions", "mention_rows"]


#: Spans that the model `cvib` judges in one request (sentiment/triton.py); a text may name more.
MOST_SPANS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    span: AspectSpan
    polarity: Polarity


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The mentions of one text; `made` covers both models, its infer_ms the two round trips.

    `foreign`: the models do not know its language: finding no aspect means nothing.
    """

    mentions: Sequence[Mention]
    made: Made
    foreign: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a text belongs to: a revision of a review, or an utterance of a call. `at` picks the partition."""

    source: Literal["review", "utterance"]
    identity: UUID  # of the revision or the utterance
    at: datetime
    occurred_at: datetime
    review_id: str | None = None
    call_id: str | None = None
    product: str | None = None


async def find_mentions(inference: Inference, text: str, deadline: Deadline, *, product: str | None = None) -> Found:
    """Raises Permanent when a model refuses the text, but not for its language; Transient when it does not answer."""
    started = perf_counter()
    try:
        spans, aspects_version = await inference.aspects(text, deadline, product=product)
        polarities, cvib_version = list[Polarity](), ""
        for k in range(0, len(spans), MOST_SPANS):
            some, cvib_version = await inference.polarities(text, spans[k : k + MOST_SPANS], deadline)
            polarities += some
    except Permanent as err:
        if err.reason != "unsupported_language":
            raise
        took = (perf_counter() - started) * 1000
        # A refusal does not say which version refused; the run does.
        made = Made(model="aspects+cvib", model_version="", infer_ms=took, queue_ms=0.0)
        return Found(mentions=[], made=made, foreign=True)
    return Found(
        mentions=[Mention(span=span, polarity=polarity) for span, polarity in zip(spans, polarities, strict=True)],
        made=Made(
            model="aspects+cvib",
            model_version="+".join(version for version in (aspects_version, cvib_version) if version),
            infer_ms=(perf_counter() - started) * 1000,
            queue_ms=0.0,
        ),
    )


def mention_rows(
    run_id: UUID, subject: Subject, text: str, found: Found, record: Source, trace: str
) -> list[AspectMentionRow]:
    """The id comes from the subject and the span, so a repeat is the same row."""
    return [
        AspectMentionRow(
            mention_id=uuid5(NAMESPACE, f"mention/{subject.identity}/{one.span.start}/{one.span.end}"),
            run_id=run_id,
            subject_at=subject.at,
            source=subject.source,
            call_id=subject.call_id,
            utterance_id=subject.identity if subject.source == "utterance" else None,
            review_id=subject.review_id,
            revision_id=subject.identity if subject.source == "review" else None,
            product=subject.product,
            span_start=one.span.start,
            span_end=one.span.end,
            aspect_text=text[one.span.start : one.span.end],
            aspect_id=one.span.aspect_id,
            polarity=one.polarity.label,
            sentiment=one.polarity.sentiment,
            p_negative=one.polarity.negative,
            p_neutral=one.polarity.neutral,
            p_positive=one.polarity.positive,
            confidence=one.span.confidence,
            occurred_at=subject.occurred_at,
            inference=found.made,
            record=record,
            trace_id=trace,
        )
        for one in found.mentions
    ]


def aspects_body(rows: Sequence[AspectMentionRow]) -> list[dict[str, object]]:
    """Aspects as `insights.v1` gives them."""
    return [
        {
            "aspect": row.aspect_text,
            "aspect_id": row.aspect_id,
            "polarity": row.polarity,
            "sentiment": round(row.sentiment, 4),
            "confidence": round(row.confidence, 4),
            "span": [row.span_start, row.span_end],
            "utterance_id": str(row.utterance_id) if row.utterance_id else None,
        }
        for row in rows
    ]
