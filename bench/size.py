"""How much is sent: enough for figures, or just enough to see that a benchmark works."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """`lines` are calls side by side in a backlog, seconds those of a window after its warm-up."""

    reviews: int
    delay_seconds: float  # of load at 60 %
    segmenter_calls: int
    calls: int
    lines: int
    memory_minutes: float
    patience_seconds: float
    poison_reviews: int  # each of four times
    poison_calls: int
    padded_calls: int
    load_of: tuple[str, ...]
    load_percents: tuple[int, ...]  # arrival rates of `load`, of capacity
    load_seconds: float
    load_workers: tuple[int, ...]  # and as many partitions
    load_reviews: int  # whose backlog tells the capacity
    load_calls: int
    load_lines: int
    load_file: str  # in the project, or here


#: Each phase takes about a minute on two cores, so that its beginning and its end are within a few per cent.
FULL = Size(
    reviews=3_000,
    delay_seconds=45,
    segmenter_calls=60,
    calls=80,
    lines=40,
    memory_minutes=4,
    patience_seconds=900,
    poison_reviews=2_000,
    poison_calls=12,
    padded_calls=20,
    load_of=("reviews", "calls"),
    load_percents=(10, 40, 70, 90, 100, 120),
    load_seconds=15,
    load_workers=(1, 2, 4),
    load_reviews=1_200,
    load_calls=16,
    load_lines=8,
    load_file="docs/results/load.json",
)
QUICK = Size(
    reviews=300,
    delay_seconds=10,
    segmenter_calls=6,
    calls=6,
    lines=6,
    memory_minutes=0.5,
    patience_seconds=300,
    poison_reviews=200,
    poison_calls=2,
    padded_calls=3,
    load_of=("reviews", "calls"),
    load_percents=(20, 120),
    load_seconds=6,
    load_workers=(1, 2),
    load_reviews=200,
    load_calls=4,
    load_lines=4,
    load_file="bench-load.json",
)
