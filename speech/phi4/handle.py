"""The caller's end of a request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Handle"]

Answer = TypeVar("Answer")


class Handle(Generic[Answer]):
    """One request: cancel it, wait for it. Safe from any thread."""

    def __init__(self, cancelled: Callable[[], bool] | None = None) -> None:
        self._asked = cancelled
        self._cancel = threading.Event()
        self._done = threading.Event()
        self._answer: Answer | None = None
        self._error: Exception | None = None

    def cancel(self) -> None:
        """The answer is no longer wanted; it ends within a step, with what there is, as `cancelled`."""
        self._cancel.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled, here or through the request's own `cancelled` function."""
        if not self._cancel.is_set() and self._asked is not None and self._asked():
            self._cancel.set()
        return self._cancel.is_set()

    @property
    def done(self) -> bool:
        """Whether there is an answer or an error."""
        return self._done.is_set()

    def result(self, timeout: float | None = None) -> Answer:
        """The answer; raises the request's error, or TimeoutError after so many seconds."""
        if not self._done.wait(timeout):
            raise TimeoutError("no answer yet")
        if self._error is not None:
            raise self._error
        assert self._answer is not None
        return self._answer

    def resolve(self, answer: Answer) -> None:
        """For the engine: this is the answer."""
        self._answer = answer
        self._done.set()

    def reject(self, error: Exception) -> None:
        """For the engine: this is the error."""
        self._error = error
        self._done.set()
