"""Counters and gauges of one engine, as a plain object: whoever serves publishes them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields, replace

__all__ = ["Metrics", "Snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One reading. What ends in `_total` only grows; seconds are of wall time, tokens of KV cache or of text."""

    queued: int = 0
    running: int = 0
    kv_tokens: int = 0  # of the slots in use
    kv_tokens_all: int = 0
    requests_total: int = 0
    completions_total: int = 0
    failures_total: int = 0
    cancelled_total: int = 0
    loops_total: int = 0
    prompt_tokens_total: int = 0
    shared_tokens_total: int = 0  # of the prompts, copied instead of computed
    new_tokens_total: int = 0
    audio_seconds_total: float = 0.0  # of requests that were answered, not of those that were cancelled
    steps_total: int = 0
    busy_seconds_total: float = 0.0  # in which at least one request was in the engine
    encode_seconds_total: float = 0.0
    prefill_seconds_total: float = 0.0
    decode_seconds_total: float = 0.0
    longest_step_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """New tokens over busy time."""
        return self.new_tokens_total / self.busy_seconds_total if self.busy_seconds_total else 0.0

    @property
    def rtfx(self) -> float:
        """Seconds of audio over busy time."""
        return self.audio_seconds_total / self.busy_seconds_total if self.busy_seconds_total else 0.0

    def since(self, before: Snapshot) -> Snapshot:
        """This reading with the totals counted from `before`."""
        totals = [field.name for field in fields(self) if field.name.endswith("_total")]
        return replace(self, **{name: getattr(self, name) - getattr(before, name) for name in totals})


class Metrics:
    """A snapshot that grows; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, float] = {}

    def add(self, **amounts: float) -> None:
        """Add to totals."""
        with self._lock:
            for name, amount in amounts.items():
                self._values[name] = self._values.get(name, 0) + amount

    def set(self, **values: float) -> None:
        """Set gauges."""
        with self._lock:
            self._values.update(values)

    def step(self, seconds: float) -> None:
        """One step of the engine took so long."""
        with self._lock:
            for name, amount in (("steps_total", 1.0), ("busy_seconds_total", seconds)):
                self._values[name] = self._values.get(name, 0) + amount
            self._values["longest_step_seconds"] = max(seconds, self._values.get("longest_step_seconds", 0.0))

    def snapshot(self) -> Snapshot:
        """What is known now."""
        with self._lock:
            values = dict(self._values)
        whole = {
            name: value if name.endswith("seconds_total") or name.startswith("longest") else int(value)
            for name, value in values.items()
        }
        return Snapshot(**whole)  # type: ignore[arg-type]
