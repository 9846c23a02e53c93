"""The engine behind a server that hands over requests and takes responses at any time, such as a decoupled Triton model.

`take` never blocks: it checks, queues and returns. The engine's thread never waits for the server either: what it has
to say goes through one sending thread, in order. A third thread asks, some fifty times a second, who is still waiting,
and reports the engine's numbers twice a second. Nothing here imports Triton.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from errors import Permanent
from speech.contract import FinishReason, SpeechAnswer, SpeechDelta, UnsupportedTask, error_text, parse_request
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
    reply: Reply
    handle: Handle[SpeechAnswer] | None = None  # none yet while the request is being queued


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
        self._outbox: SimpleQueue[tuple[int, Reply, SpeechEvent] | None] = SimpleQueue()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._sending, name="phi4-sending", daemon=True),
            threading.Thread(target=self._watching, name="phi4-watching", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def take(self, tensors: Tensors, reply: Reply) -> None:
        """Queue a request; what is wrong with it, it is told at once, and nobody else notices."""
        number, one = next(self._numbers), _Open(reply)
        with self._lock:
            self._open[number] = one
        try:
            request = parse_request(tensors)
            one.handle = self._speech.submit(request, on_event=lambda event: self._outbox.put((number, reply, event)))
        except Exception as err:  # noqa: BLE001 -- the boundary: one request must not fail another
            with self._lock:
                self._open.pop(number)
            self._refuse(reply, err)

    def close(self, timeout: float | None = None) -> None:
        """Take nothing new, answer what is here, then stop; after `timeout` seconds the rest is cancelled."""
        self._speech.close(timeout)
        self._outbox.put(None)
        self._threads[0].join()
        self._ended.set()
        self._threads[1].join(_PATIENCE_SECONDS)  # it may be asking a server that no longer answers

    def _sending(self) -> None:
        while (told := self._outbox.get()) is not None:
            number, reply, event = told
            last = not isinstance(event, SpeechDelta)
            if last:
                with self._lock:
                    self._open.pop(number, None)
            try:
                self._send(reply, event, last=last)
            except Exception:  # noqa: BLE001 -- the server lost this request: nobody else must suffer, and it is computed no further
                with self._lock:
                    lost = self._open.get(number)
                if lost is not None and lost.handle is not None:
                    lost.handle.cancel()

    def _send(self, reply: Reply, event: SpeechEvent, *, last: bool) -> None:
        if isinstance(event, Exception):
            self._refuse(reply, event)
        elif isinstance(event, SpeechAnswer) and event.finish_reason is FinishReason.CANCELLED:
            reply.refuse("cancelled", "cancelled")
        else:
            reply.send(event.tensors(), last=last)

    def _refuse(self, reply: Reply, error: Exception) -> None:
        text, code = refusal(error)
        self._refused[code] += 1
        reply.refuse(text, code)

    def _watching(self) -> None:
        rounds = 0
        while not self._ended.wait(_WATCH_SECONDS):
            with self._lock:
                waiting = [(one.reply, one.handle) for one in self._open.values() if one.handle is not None]
            for reply, handle in waiting:
                with suppress(Exception):  # a reply that cannot tell has its answer still
                    if not handle.cancelled and reply.cancelled():
                        handle.cancel()
            rounds += 1
            if rounds * _WATCH_SECONDS >= _REPORT_SECONDS:
                rounds = 0
                self._report(self._speech.metrics, dict(self._refused))


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
