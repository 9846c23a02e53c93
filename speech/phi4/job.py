"""Runs one request's work on the engine: asks for its sequences, hands them back, answers in the end.

The work's own code runs between steps on the engine's thread; it is short, and what it raises is this request's error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from speech.contract import FinishReason
from speech.phi4.engine import Engine
from speech.phi4.generation import Completion, Delta, Event, Failed
from speech.phi4.handle import Handle
from speech.phi4.work import Ask, Say, Work

__all__ = ["Job"]

Answer = TypeVar("Answer")


class Job(Generic[Answer]):
    """One request. `tell` gets the text for whoever streams; `done` the answer or the error, once, at the very end."""

    def __init__(
        self,
        engine: Engine,
        work: Work[Answer],
        *,
        cancelled_answer: Callable[[Sequence[Completion]], Answer],
        tell: Callable[[Say], None],
        done: Callable[[Answer | Exception], None],
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.handle: Handle[Answer] = Handle(cancelled)
        self._engine = engine
        self._work = work
        self._cancelled_answer = cancelled_answer
        self._tell = tell
        self._done = done
        self._lock = threading.Lock()
        self._left = 0
        self._results: list[Completion | None] = []
        self._over = False

    def start(self) -> Handle[Answer]:
        """Queue the first sequences; raises what the work or the engine refuses them with, unless `done` has its answer."""
        try:
            self._go(next(self._work), first=True)
        except StopIteration as end:  # answered without the model
            self._end(end.value)
        except BaseException:
            with self._lock:
                answered, self._over = self._over, True  # those that were queued leave
            if not answered:  # by a sequence that failed while the next was being queued
                raise
        return self.handle

    def _go(self, step: Ask | Say, *, first: bool = False) -> None:
        while isinstance(step, Say):
            self._tell(step)
            step = self._work.send(())
        self._results = [None] * len(step.generations)
        self._left = len(step.generations)
        numbered = list(enumerate(step.generations))
        # What follows is part of work that was let in: it goes to the front, the last one first to keep their order.
        for number, generation in numbered if first else reversed(numbered):
            self._engine.submit(
                generation,
                on_event=partial(self._event, number, step.stream and number == 0),
                cancelled=self._gone,
                front=not first,
                inside=not first or number > 0,
            )

    def _gone(self) -> bool:
        return self._over or self.handle.cancelled

    def _event(self, number: int, stream: bool, event: Event) -> None:
        if isinstance(event, Delta):
            if stream and not self._over:
                self._tell(Say(text=event.text))
            return
        if isinstance(event, Failed):
            self._end(event.error)
            return
        with self._lock:
            self._results[number] = event
            self._left -= 1
            if self._left:
                return
        if not self._over:
            self._next([one for one in self._results if one is not None])

    def _next(self, results: list[Completion]) -> None:
        try:
            if any(one.finish_reason is FinishReason.CANCELLED for one in results):
                self._work.close()
                self._end(self._cancelled_answer(results))
                return
            self._go(self._work.send(results))
        except StopIteration as end:
            self._end(end.value)
        except Exception as err:  # noqa: BLE001 -- the work's error is this request's answer
            self._end(err)

    def _end(self, outcome: Answer | Exception) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
        try:
            self._done(outcome)
        finally:
            if isinstance(outcome, Exception):
                self.handle.reject(outcome)
            else:
                self.handle.resolve(outcome)
