"""How well aspects are found and judged, against reviews whose aspects are known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["read_truth", "score_aspects"]

Span = tuple[int, int]
#: Review id -> span in characters -> polarity.
Aspects = Mapping[str, Mapping[Span, str]]


def read_truth(file: Path) -> dict[str, dict[Span, str]]:
    """A line a review: {"review_id", "aspects": [[text, polarity], ...], "spans": [[from, to], ...]}; the last version counts.

    Raises ValueError that names what is wrong, or OSError.
    """
    truth: dict[str, dict[Span, str]] = {}
    versions: dict[str, int] = {}
    try:
        lines = file.read_text("utf-8").split("\n")
    except UnicodeDecodeError as err:
        raise ValueError(f"{file.name} is not UTF-8 text") from err
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            review_id, version = str(row["review_id"]), int(row.get("version", 1))
            pairs = zip(row["spans"], row["aspects"], strict=True)
            spans = {(int(first), int(end)): str(polarity) for (first, end), (_, polarity) in pairs}
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            wanted = '{"review_id": ..., "aspects": [[text, polarity], ...], "spans": [[from, to], ...]}'
            raise ValueError(f"{file.name}, line {number}: not {wanted}, as in samples/reviews.truth.jsonl") from err
        if version >= versions.get(review_id, 0):
            versions[review_id], truth[review_id] = version, spans
    if not truth:
        raise ValueError(f"{file.name} holds no review")
    return truth


def score_aspects(truth: Aspects, found: Iterable[Mapping[str, Any]]) -> dict[str, float | int]:
    """`found`: rows with review_id, span_start, span_end, polarity. Polarity is judged on exactly matching spans."""
    by_review: dict[str, dict[Span, str]] = {}
    for row in found:
        by_review.setdefault(row["review_id"], {})[row["span_start"], row["span_end"]] = row["polarity"]
    wanted = sum(len(spans) for spans in truth.values())
    given = sum(len(spans) for review_id, spans in by_review.items() if review_id in truth)
    exact = touching = right = false_spans = empty = 0
    for review_id, spans in truth.items():
        mine = by_review.get(review_id, {})
        exact += len(spans.keys() & mine.keys())
        right += sum(mine[span] == spans[span] for span in spans.keys() & mine.keys())
        touching += sum(any(overlap(span, other) for other in mine) for span in spans)
        if not spans:
            empty += 1
            false_spans += bool(mine)
    precision, recall = ratio(exact, given), ratio(exact, wanted)
    return {
        "reviews": len(truth),
        "aspects": wanted,
        "found": given,
        "exact_precision": precision,
        "exact_recall": recall,
        "exact_f1": ratio(2 * exact, given + wanted),
        "overlap_recall": ratio(touching, wanted),
        "polarity_accuracy": ratio(right, exact),
        "reviews_without_aspect": empty,
        "false_span_rate": ratio(false_spans, empty),
    }


def overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def ratio(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
