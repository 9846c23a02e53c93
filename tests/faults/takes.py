"""How often each record was handed to a worker: what FAULT_TAKES of entry.py noted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

__all__ = ["redelivered", "taken"]


def taken(path: Path) -> Counter[tuple[int, int]]:
    """(partition, offset) -> deliveries."""
    found: Counter[tuple[int, int]] = Counter()
    for line in path.read_text().splitlines() if path.exists() else ():
        partition, first, last = map(int, line.split())
        found.update((partition, offset) for offset in range(first, last + 1))
    return found


def redelivered(path: Path) -> int:
    """Deliveries beyond each record's first."""
    return sum(times - 1 for times in taken(path).values())
