"""How much is sent: enough for figures, or just enough to see that a benchmark works."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    reviews: int
    delay_seconds: float  # of load at 60 %, after the warm-up
    segmenter_calls: int
    calls: int
    lines: int  # calls side by side
    memory_minutes: float
    patience_seconds: float


#: Each phase takes about a minute on two cores, so that a batch more or less is within a few per cent.
FULL = Size(
    reviews=3_000,
    delay_seconds=45,
    segmenter_calls=120,
    calls=60,
    lines=40,
    memory_minutes=4,
    patience_seconds=900,
)
QUICK = Size(
    reviews=300,
    delay_seconds=10,
    segmenter_calls=6,
    calls=6,
    lines=6,
    memory_minutes=0.5,
    patience_seconds=300,
)
