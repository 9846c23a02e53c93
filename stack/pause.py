"""How long to wait before a restart: longer each time, short again after a while of health."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Pause"]

# Half a second costs nobody anything; 30 s keeps a process that cannot start from eating a core with its attempts.
_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0
_HEALTHY_AGAIN_SECONDS = 30.0


class Pause:
    """The growing pause of one process. `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = _FIRST_SECONDS
        self._healthy_since: float | None = None

    def started(self) -> None:
        """The process was started and is healthy."""
        self._healthy_since = self._clock()

    def failed(self) -> float:
        """The process has died or failed its check, or could not be started: seconds to wait before the next try."""
        if self._healthy_since is not None and self._clock() - self._healthy_since > _HEALTHY_AGAIN_SECONDS:
            self._next = _FIRST_SECONDS
        self._healthy_since = None
        pause = self._next
        self._next = min(2 * pause, _LONGEST_SECONDS)
        return pause
