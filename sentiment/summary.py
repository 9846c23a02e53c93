"""What many texts say about each aspect: how often, how they feel, and in which words."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

from sentiment.segment import sentence_at, sentences

__all__ = ["AspectSummary", "Judged", "Quote", "by_group", "net_sentiment", "summarize"]

_Z = 1.96  # 95 %
_QUOTE = 160  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One aspect in a text with its polarity; `unsure` where the polarity's probability is below what was asked."""

    line: int
    start: int
    end: int
    aspect: str
    aspect_id: str
    confidence: float
    polarity: str
    negative: float
    neutral: float
    positive: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A sentence of the text on `line`, on one line itself; the aspect is its characters [start, end)."""

    line: int
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectSummary:
    """`net` is (positive - negative) / (all but unsure), -1..1, between `low` and `high` with 95 %; None where all are unsure."""

    aspect: str
    mentions: int
    texts: int
    negative: int
    neutral: int
    positive: int
    unsure: int
    net: float | None
    low: float | None
    high: float | None
    quotes: dict[str, Quote] = field(default_factory=dict)


def net_sentiment(negative: int, neutral: int, positive: int) -> tuple[float, float, float]:
    """Net sentiment and its 95 % interval: Wilson's, for the mean of (sentiment + 1) / 2.

    Right for two classes; where some are neutral it is a little too wide, and never of width 0.
    Mentions count as independent of each other. Raises ZeroDivisionError without any.
    """
    n = negative + neutral + positive
    p = (positive + neutral / 2) / n
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return 2 * p - 1, max(-1.0, 2 * (centre - half) - 1), min(1.0, 2 * (centre + half) - 1)


def summarize(texts: dict[int, str], found: Sequence[Judged]) -> list[AspectSummary]:
    """By taxonomy id, or by its own words where that is `other`; the most frequent first."""
    groups: dict[str, list[Judged]] = defaultdict(list)
    for one in found:
        groups[one.aspect.casefold() if one.aspect_id == "other" else one.aspect_id].append(one)
    out = [_summary(name, group, texts) for name, group in groups.items()]
    return sorted(out, key=lambda one: (-one.mentions, one.aspect))


def by_group(
    texts: dict[int, str], found: Sequence[Judged], groups: Mapping[int, str | None]
) -> dict[str | None, list[AspectSummary]]:
    """A report for each group of lines, in the order of the groups' first lines; of each line `groups` names its own."""
    out: dict[str | None, list[Judged]] = {groups[line]: [] for line in texts}
    for one in found:
        out[groups[one.line]].append(one)
    return {group: summarize(texts, some) for group, some in out.items()}


def _summary(name: str, group: Sequence[Judged], texts: dict[int, str]) -> AspectSummary:
    count = {label: sum(one.polarity == label for one in group) for label in ("negative", "neutral", "positive")}
    known = sum(count.values())
    net, low, high = net_sentiment(**count) if known else (None, None, None)
    quotes = {}
    for label in ("negative", "positive"):
        sure = [one for one in group if one.polarity == label]
        if sure:
            best = max(sure, key=lambda one: (getattr(one, label), -one.line))
            quotes[label] = _quote(texts[best.line], best)
    return AspectSummary(
        aspect=name, mentions=len(group), texts=len({one.line for one in group}), unsure=len(group) - known,
        net=net, low=low, high=high, quotes=quotes, **count,
    )  # fmt: skip


def _quote(text: str, one: Judged) -> Quote:
    """The sentence around the aspect, cut to 160 characters."""
    low, high = sentence_at(sentences(text), one.start, one.end)
    start, end = low, high
    if high - low > _QUOTE:
        start = max(low, min(one.start - _QUOTE // 2, high - _QUOTE))
        end = start + _QUOTE
    before = ("…" if start > low else "") + _one_line(text[start : one.start]).lstrip()
    words = _one_line(text[one.start : min(one.end, end)])
    after = _one_line(text[min(one.end, end) : end]).rstrip() + ("…" if end < high else "")
    return Quote(line=one.line, text=before + words + after, start=len(before), end=len(before) + len(words))


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)
