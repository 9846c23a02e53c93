"""The content of a report, as plain data between the queries and the layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

__all__ = [
    "AspectRow",
    "CallReport",
    "Completeness",
    "DeadLetters",
    "Freshness",
    "Json",
    "Line",
    "Mention",
    "Quote",
    "Report",
    "ReviewReport",
    "Tally",
]

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """An aspect in an utterance or review; the span counts characters of its text, sentiment is -1..1."""

    text: str
    aspect_id: str
    polarity: str
    sentiment: float
    confidence: float
    span_start: int
    span_end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An utterance of a transcript; times in ms from the start of the call."""

    utterance_id: UUID
    channel: int
    role: str
    start_ms: int
    end_ms: int
    text: str
    mentions: tuple[Mention, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A finding and when the utterances that support it began, ms from the start of the call."""

    text: str
    at_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReport:
    """One call; summary and what belongs to it are None or empty while there is none."""

    call_id: str
    call_started_at: datetime
    product: str | None
    roles: tuple[str, ...]
    state: str
    state_reason: str | None
    duration_ms: int
    gap_ms: int
    late_chunks: int
    method: str | None
    issue: Quote | None
    outcome: Quote | None
    actions: tuple[Quote, ...]
    summary: str | None
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewReport:
    """One review in its newest version; rating on the producer's scale; state is analysed or unsupported_language."""

    review_id: str
    version: int | None
    state: str
    created_at: datetime
    product: str | None
    rating: float | None
    text: str
    mentions: tuple[Mention, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Mentions by polarity."""

    negative: int = 0
    neutral: int = 0
    positive: int = 0

    @property
    def mentions(self) -> int:
        return self.negative + self.neutral + self.positive

    @property
    def net(self) -> float | None:
        """(positive - negative) / mentions, -1..1; None without mentions."""
        return (self.positive - self.negative) / self.mentions if self.mentions else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectRow:
    """What calls and what reviews say of one aspect of a product."""

    product: str | None
    aspect_id: str
    calls: Tally
    reviews: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """What came in and what became of it, over all time; source is call or review."""

    source: str
    total: int
    complete: int
    open: int
    analysed: int
    no_speech: int
    timed_out: int
    dead_lettered: int
    other_terminal: int
    gap_ms: int
    late_chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Delay from a Kafka record to its row, ms, in the newest hour with such rows."""

    kind: str
    hour: datetime
    rows: int
    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """Records given up by one stage for one reason."""

    stage: str
    reason: str
    records: int
    replayed: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything, as of one instant. `calls` and `reviews` may be fewer than their totals, oldest first."""

    calls_total: int
    reviews_total: int
    calls: tuple[CallReport, ...]
    reviews: tuple[ReviewReport, ...]
    aspects: tuple[AspectRow, ...]
    completeness: tuple[Completeness, ...]
    freshness: tuple[Freshness, ...]
    dead_letters: tuple[DeadLetters, ...]

    def to_dict(self) -> dict[str, Json]:
        """The same as JSON-ready data: instants as RFC 3339, ids as text, each tally with its `mentions` and `net`."""
        return cast("dict[str, Json]", _json(self))


def _json(value: object) -> Json:
    if is_dataclass(value) and not isinstance(value, type):
        out: dict[str, Json] = {field.name: _json(getattr(value, field.name)) for field in fields(value)}
        if isinstance(value, Tally):
            out |= {"mentions": value.mentions, "net": value.net}
        return out
    if isinstance(value, Mapping):
        return {str(key): _json(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_json(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
