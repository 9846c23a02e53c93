"""One monotonic deadline that flows from the batch to Triton and Postgres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from errors import Transient

__all__ = ["Deadline"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a monotonic clock, in seconds."""

    at: float
    clock: Callable[[], float] = monotonic

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = monotonic) -> Deadline:
        return cls(clock() + seconds, clock)

    @property
    def remaining_seconds(self) -> float:
        return max(0.0, self.at - self.clock())

    def check(self) -> float:
        """Seconds that are left. Raises Transient when none are."""
        remaining = self.remaining_seconds
        if remaining <= 0.0:
            raise Transient("the batch's deadline has passed; it will be tried again")
        return remaining
