"""Every query of the report. Only the views of analytics_v1, so that an analyst's login is enough."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from report.model import (
    AspectRow,
    CallReport,
    Completeness,
    DeadLetters,
    Freshness,
    Line,
    Mention,
    Quote,
    Report,
    ReviewReport,
    Tally,
)

__all__ = ["DEFAULT_CALLS", "DEFAULT_REVIEWS", "read"]

#: Transcripts beyond this fill a screen nobody scrolls; `earful report --calls` asks for more.
DEFAULT_CALLS = 20
#: Enough to see what a review and its aspects look like; the table of aspects counts them all.
DEFAULT_REVIEWS = 5

_Row = dict[str, Any]

_CALLS = """
SELECT call_id, call_started_at, product, roles, state, state_reason, duration_ms, gap_ms, late_chunks
  FROM analytics_v1.calls
 WHERE %(ids)s::text[] IS NULL OR call_id = ANY (%(ids)s)
 ORDER BY call_started_at DESC, call_id DESC
 LIMIT %(limit)s"""

# The call's start picks the partitions, see docs/sql.md.
_OF_CALLS = "call_id = ANY (%(ids)s) AND call_started_at BETWEEN %(first)s AND %(last)s"
_LINES: LiteralString = f"""
SELECT utterance_id, call_id, channel, role, start_ms, end_ms, text
  FROM analytics_v1.utterances
 WHERE {_OF_CALLS}
 ORDER BY call_id, start_ms, channel, utterance_id"""
_SUMMARIES: LiteralString = f"""
SELECT call_id, method, issue, outcome, actions, summary, evidence FROM analytics_v1.summaries WHERE {_OF_CALLS}"""
_MENTIONS = """
SELECT utterance_id AS of, aspect_text, aspect_id, polarity, sentiment, confidence, span_start, span_end
  FROM analytics_v1.aspect_mentions
 WHERE source = 'utterance' AND call_id = ANY (%(ids)s) AND subject_at BETWEEN %(first)s AND %(last)s
 ORDER BY utterance_id, span_start, span_end"""

_REVIEWS = """
SELECT review_id, version, state, created_at, product, rating, text
  FROM analytics_v1.reviews
 ORDER BY created_at DESC, review_id DESC
 LIMIT %(limit)s"""
_REVIEW_MENTIONS = """
SELECT review_id AS of, aspect_text, aspect_id, polarity, sentiment, confidence, span_start, span_end
  FROM analytics_v1.aspect_mentions
 WHERE source = 'review' AND review_id = ANY (%(ids)s) AND subject_at BETWEEN %(first)s AND %(last)s
 ORDER BY review_id, span_start, span_end"""

_ASPECTS = """
SELECT product, aspect_id, source, sum(negative)::int AS negative, sum(neutral)::int AS neutral,
       sum(positive)::int AS positive
  FROM analytics_v1.aspect_daily
 GROUP BY product, aspect_id, source"""
_COMPLETENESS = """
SELECT source, sum(total)::int AS total, sum(complete)::int AS complete, sum(open)::int AS open,
       sum(analysed)::int AS analysed, sum(no_speech)::int AS no_speech, sum(timed_out)::int AS timed_out,
       sum(dead_lettered)::int AS dead_lettered, sum(other_terminal)::int AS other_terminal,
       sum(gap_ms)::bigint AS gap_ms, sum(late_chunks)::bigint AS late_chunks
  FROM analytics_v1.completeness
 GROUP BY source
 ORDER BY source"""
_FRESHNESS = """
SELECT DISTINCT ON (kind) kind, hour, "rows", p50_ms, p95_ms, max_ms
  FROM analytics_v1.freshness
 ORDER BY kind, hour DESC"""
_DEAD_LETTERS = """
SELECT stage, reason, count(*)::int AS records, count(replayed_at)::int AS replayed, min(failed_at) AS first_at,
       max(failed_at) AS last_at
  FROM analytics_v1.dead_letters
 GROUP BY stage, reason
 ORDER BY records DESC, stage, reason"""


def read(
    connection: psycopg.Connection[Any],
    *,
    call_ids: Sequence[str] | None = None,
    calls: int = DEFAULT_CALLS,
    reviews: int = DEFAULT_REVIEWS,
) -> Report:
    """The report as of one instant: `call_ids` if given, else the newest `calls`, and the newest `reviews`.

    Reads in one REPEATABLE READ transaction, or, if the caller has one open, in that. Raises psycopg.Error.
    """
    outermost = connection.info.transaction_status == TransactionStatus.IDLE
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        if outermost:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return Report(
            calls_total=_count(cursor, "SELECT count(*) AS n FROM analytics_v1.calls"),
            reviews_total=_count(cursor, "SELECT count(*) AS n FROM analytics_v1.reviews"),
            calls=_calls(cursor, call_ids, calls),
            reviews=_reviews(cursor, reviews),
            aspects=_aspects(cursor),
            completeness=tuple(Completeness(**row) for row in cursor.execute(_COMPLETENESS)),
            freshness=tuple(Freshness(**row) for row in cursor.execute(_FRESHNESS)),
            dead_letters=tuple(DeadLetters(**row) for row in cursor.execute(_DEAD_LETTERS)),
        )


def _count(cursor: psycopg.Cursor[_Row], query: LiteralString) -> int:
    row = cursor.execute(query).fetchone()
    return int(row["n"]) if row else 0


def _calls(cursor: psycopg.Cursor[_Row], call_ids: Sequence[str] | None, limit: int) -> tuple[CallReport, ...]:
    wanted = None if call_ids is None else list(call_ids)
    calls = cursor.execute(_CALLS, {"ids": wanted, "limit": None if wanted is not None else limit}).fetchall()[::-1]
    starts: list[datetime] = [call["call_started_at"] for call in calls]
    if not starts:
        return ()
    which = {"ids": [call["call_id"] for call in calls], "first": min(starts), "last": max(starts)}

    mentions = _mentions(cursor, _MENTIONS, which)
    lines: defaultdict[str, list[Line]] = defaultdict(list)
    for row in cursor.execute(_LINES, which):
        lines[row.pop("call_id")].append(Line(**row, mentions=tuple(mentions[row["utterance_id"]])))
    summaries = {row["call_id"]: row for row in cursor.execute(_SUMMARIES, which)}
    return tuple(_call(call, summaries.get(call["call_id"]), lines[call["call_id"]]) for call in calls)


def _reviews(cursor: psycopg.Cursor[_Row], limit: int) -> tuple[ReviewReport, ...]:
    rows = cursor.execute(_REVIEWS, {"limit": limit}).fetchall()[::-1]
    if not rows:
        return ()
    which = {"ids": [row["review_id"] for row in rows], "first": rows[0]["created_at"], "last": rows[-1]["created_at"]}
    mentions = _mentions(cursor, _REVIEW_MENTIONS, which)
    return tuple(ReviewReport(**row, mentions=tuple(mentions[row["review_id"]])) for row in rows)


def _mentions(
    cursor: psycopg.Cursor[_Row], query: LiteralString, which: dict[str, Any]
) -> defaultdict[UUID | str, list[Mention]]:
    """By utterance or review, in the order of the text."""
    found: defaultdict[UUID | str, list[Mention]] = defaultdict(list)
    for row in cursor.execute(query, which):
        found[row.pop("of")].append(Mention(text=row.pop("aspect_text"), **row))
    return found


def _call(call: _Row, summary: _Row | None, lines: Sequence[Line]) -> CallReport:
    starts = {str(line.utterance_id): line.start_ms for line in lines}
    evidence: dict[str, list[int]] = {}
    for one in summary["evidence"] if summary else ():
        evidence[one["field"]] = sorted(starts[known] for known in one["utterance_ids"] if known in starts)

    def quote(field: str, text: str | None) -> Quote | None:
        return Quote(text=text, at_ms=tuple(evidence.get(field, ()))) if text else None

    found = summary or {"method": None, "issue": None, "outcome": None, "actions": [], "summary": None}
    actions = (quote(f"actions[{number}]", str(text)) for number, text in enumerate(found["actions"]))
    return CallReport(
        call_id=call["call_id"],
        call_started_at=call["call_started_at"],
        product=call["product"],
        roles=tuple(call["roles"]),
        state=call["state"],
        state_reason=call["state_reason"],
        duration_ms=call["duration_ms"],
        gap_ms=call["gap_ms"],
        late_chunks=call["late_chunks"],
        method=found["method"],
        issue=quote("issue", found["issue"]),
        outcome=quote("outcome", found["outcome"]),
        actions=tuple(action for action in actions if action is not None),
        summary=found["summary"] or None,
        lines=tuple(lines),
    )


def _aspects(cursor: psycopg.Cursor[_Row]) -> tuple[AspectRow, ...]:
    """By product; in each the aspects that both calls and reviews name first, then the most often named."""
    tallies: defaultdict[tuple[str | None, str], dict[str, Tally]] = defaultdict(dict)
    for row in cursor.execute(_ASPECTS):
        tally = Tally(negative=row["negative"], neutral=row["neutral"], positive=row["positive"])
        tallies[row["product"], row["aspect_id"]][row["source"]] = tally
    rows = [
        AspectRow(
            product=product,
            aspect_id=aspect,
            calls=sides.get("utterance", Tally()),
            reviews=sides.get("review", Tally()),
        )
        for (product, aspect), sides in tallies.items()
    ]
    return tuple(
        sorted(
            rows,
            key=lambda row: (
                row.product is None,
                row.product or "",
                not (row.calls.mentions and row.reviews.mentions),
                -row.calls.mentions - row.reviews.mentions,
                row.aspect_id,
            ),
        )
    )
