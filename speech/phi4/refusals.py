"""What the engine answers when the fault is not the request's: try again later, or elsewhere."""

from __future__ import annotations

from errors import EarfulError, Transient

__all__ = ["Closing", "EngineFailed", "QueueFull"]


class QueueFull(Transient):
    """As many requests wait as may; Triton answers UNAVAILABLE."""


class Closing(Transient):
    """The engine takes no more requests: it ends what it has; Triton answers UNAVAILABLE."""


class EngineFailed(EarfulError):
    """The model could not compute this request, or the engine stopped; Triton answers INTERNAL."""
