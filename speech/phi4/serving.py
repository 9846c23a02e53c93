"""The engine behind a server that hands over requests and takes responses at any time, such as a decoupled Triton model.

`take` never blocks: it checks, queues and returns. The engine's thread never waits for the server either: what it has
to say goes through one sending thread, in order. A third thread asks who is still waiting, fifty times a second those
that run and twice a second the others (to ask is a round trip to the server), and reports the engine's numbers twice a
second. Nothing here imports Triton.

A canary, the small request of a health check, is a request like any other, but it never waits long where the engine works:
five seconds after it came, or at once if the queue is full, the engine's next step answers it that the model is busy. An
engine that stands still makes no step, and the canary gets no answer.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from time import monotonic
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from errors import Permanent
from speech.contract import (
    BUSY_PREFIX,
    FinishReason,
    SpeechAnswer,
    SpeechDelta,
    UnsupportedTask,
    error_text,
    parse_request,
)
from speech.phi4.handle import Handle
from speech.phi4.metrics import Snapshot
from speech.phi4.refusals import Closing, QueueFull
from speech.phi4.service import Speech, SpeechEvent

__all__ = ["Code", "Reply", "Serving"]


Code = Literal["invalid", "unsupported", "unavailable", "cancelled", "internal"]
Tensors = Mapping[str, NDArray[Any]]

_WATCH_SECONDS = 0.02
_REPORT_SECONDS = 0.5
_PATIENCE_SECONDS = 2.0
_CANARY_SECONDS = 5.0
#: A request that waits for its slot is looked at in one of so many rounds.
_TURNS = 25


class Reply(Protocol):
    """Where one request is answered."""

    def send(self, tensors: Tensors, *, last: bool) -> None:
        """A response; after the last one nothing follows."""

    def refuse(self, text: str, code: Code) -> None:
        """An error, which is the last response."""

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""


@dataclass(slots=True, eq=False)
class _Open:
    """A request without its last response. Whoever takes it out of the open ones gives that."""

    reply: Reply
    handle: Handle[SpeechAnswer] | None = None  # none yet while the request is being queued
    canary: _Canary | None = None


@dataclass(slots=True, eq=False)
class _Canary:
    due: float  # from when "busy" will do, by the monotonic clock
    steps: int | None = None  # that the engine had made then


class Serving:
    """Takes requests for `speech` until `close`; `report` gets a reading of its numbers, and how
    many were refused why, about twice a second."""

    def __init__(
        self, speech: Speech, *, report: Callable[[Snapshot, Mapping[Code, int]], None] = lambda reading, refused: None
    ) -> None:
        self._speech = speech
        self._report = report
        self._lock = threading.Lock()
        self._open: dict[int, _Open] = {}
        self._numbers = count()
        self._refused: Counter[Code] = Counter()
        self._outbox: SimpleQueue[tuple[int, SpeechEvent] | None] = SimpleQueue()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._sending, name="phi4-sending", daemon=True),
            threading.Thread(target=self._watching, name="phi4-watching", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def take(self, read: Callable[[], Tensors], reply: Reply, *, canary: bool = False) -> None:
        """Queue the request whose tensors `read` gives; what is wrong with it, it is told at once, and nobody else notices."""
        number, one = next(self._numbers), _Open(reply)
        if canary:
            one.canary = _Canary(due=monotonic() + _CANARY_SECONDS)
        with self._lock:
            self._open[number] = one
        try:
            request = parse_request(read())
            one.handle = self._speech.submit(request, on_event=lambda event: self._outbox.put((number, event)))
        except Exception as err:  # noqa: BLE001 -- the boundary: one request must not fail another
            if one.canary is not None and isinstance(err, QueueFull):
                one.canary.due = monotonic()
            else:
                self._refuse(number, err)

    def close(self, timeout: float | None = None) -> None:
        """Take nothing new, answer what is here, then stop; after `timeout` seconds the rest is cancelled."""
        self._speech.close(timeout)
        self._outbox.put(None)
        self._threads[0].join()
        self._ended.set()
        self._threads[1].join(_PATIENCE_SECONDS)  # it may be asking a server that no longer answers
        for number in list(self._open):
            self._refuse(number, Closing("the engine is shutting down"))

    def _sending(self) -> None:
        while (told := self._outbox.get()) is not None:
            number, event = told
            if isinstance(event, SpeechDelta):
                self._tell(number, event)
            elif isinstance(event, Exception):
                self._refuse(number, event)
            else:
                self._answer(number, event)

    def _tell(self, number: int, delta: SpeechDelta) -> None:
        one = self._open.get(number)
        if one is None:
            return
        try:
            one.reply.send(delta.tensors(), last=False)
        except Exception:  # noqa: BLE001 -- the server lost this request: nobody else must suffer, and it is computed no further
            if one.handle is not None:
                one.handle.cancel()

    def _answer(self, number: int, answer: SpeechAnswer) -> None:
        one = self._taken_out(number)
        if one is None:
            return
        if answer.finish_reason is FinishReason.CANCELLED:
            self._end(one, "cancelled", "cancelled")
            return
        try:
            one.reply.send(answer.tensors(), last=True)
        except Exception as err:  # noqa: BLE001 -- without a last response client and server would wait for ever
            self._count("internal")
            self._end(one, *refusal(err))

    def _refuse(self, number: int, error: Exception) -> None:
        one = self._taken_out(number)
        if one is not None:
            text, code = refusal(error)
            self._count(code)
            self._end(one, text, code)

    def _end(self, one: _Open, text: str, code: Code) -> None:
        with suppress(Exception):  # the server lost this request: nobody waits for it
            one.reply.refuse(text, code)

    def _count(self, code: Code) -> None:
        with self._lock:
            self._refused[code] += 1

    def _taken_out(self, number: int) -> _Open | None:
        with self._lock:
            return self._open.pop(number, None)

    def _watching(self) -> None:
        turn, report_at = 0, monotonic()
        while not self._ended.wait(_WATCH_SECONDS):
            turn += 1
            with suppress(Exception):  # what cannot be told now is told in the next round
                reading = self._speech.metrics
                self._look(reading, turn)
                if monotonic() >= report_at:
                    report_at = monotonic() + _REPORT_SECONDS
                    with self._lock:
                        refused = dict(self._refused)
                    self._report(reading, refused)

    def _look(self, reading: Snapshot, turn: int) -> None:
        with self._lock:
            every = list(self._open.items())
        waiting = [one for _, one in every if one.handle is not None]
        # The oldest have the slots, or nearly so.
        for one in waiting[: reading.running] + waiting[reading.running :][turn % _TURNS :: _TURNS]:
            with suppress(Exception):  # a reply that cannot tell has its answer still
                if one.handle is not None and not one.handle.cancelled and one.reply.cancelled():
                    one.handle.cancel()
        for number, one in every:
            if one.canary is None or one.canary.due > monotonic():
                continue
            if one.canary.steps is None:
                one.canary.steps = reading.steps_total
            elif reading.steps_total > one.canary.steps:
                self._busy(number, one)

    def _busy(self, number: int, one: _Open) -> None:
        if self._taken_out(number) is not None:
            self._end(one, BUSY_PREFIX + "the engine works on what came before", "unavailable")
            if one.handle is not None:
                one.handle.cancel()


def refusal(error: Exception) -> tuple[str, Code]:
    """What a caller is told: the contract's words for his own fault, no payload for ours."""
    if isinstance(error, UnsupportedTask):
        return error_text(error), "unsupported"
    if isinstance(error, Permanent):
        return error_text(error), "invalid"
    if isinstance(error, QueueFull):
        return f"the queue is full: {error}", "unavailable"
    if isinstance(error, Closing):
        return str(error), "unavailable"
    return f"{type(error).__name__} while answering", "internal"
