"""The engine: one thread that owns the model and its running batch, and requests that may come from any thread.

engine = Engine(model, limits, vocabulary=Vocabulary(tokenizer), stop_ids=(200020, 199999))
completion = engine.submit(generation).result()
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from speech.phi4.admission import measure
from speech.phi4.batch import Batch
from speech.phi4.generation import Completion, Event, Generation
from speech.phi4.handle import Handle
from speech.phi4.limits import Limits
from speech.phi4.metrics import Snapshot
from speech.phi4.model import Phi4Model
from speech.phi4.refusals import Closing, EngineFailed
from speech.phi4.sequence import Running
from speech.phi4.stream import TextStream, Vocabulary

__all__ = ["Engine"]


class Engine:
    """See the module.

    `late`: read each step after the next one was launched, so that a GPU never waits for the host; None: on CUDA only.
    `run` False starts no thread: the caller calls `step`, as tests do.
    """

    def __init__(
        self,
        model: Phi4Model,
        limits: Limits,
        *,
        vocabulary: Vocabulary,
        stop_ids: Iterable[int],
        late: bool | None = None,
        run: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.limits = limits
        self.model = model
        self.vocabulary = vocabulary
        self._clock = clock
        self.batch = Batch(
            model,
            limits,
            stop_ids=frozenset(stop_ids),
            late=model.device.type == "cuda" if late is None else late,
            clock=clock,
        )
        self._work = threading.Condition(self.batch.lock)
        self._closing = False
        self._ended = False
        self._broken: Exception | None = None
        self._thread: threading.Thread | None = None
        if run:
            self._thread = threading.Thread(target=self._run, name="phi4-engine", daemon=True)
            self._thread.start()

    def submit(
        self,
        generation: Generation,
        *,
        on_event: Callable[[Event], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        front: bool = False,
        inside: bool = False,
    ) -> Handle[Completion]:
        """Queue a request and return at once; any thread.

        `on_event` gets deltas, then a Completion or Failed, on the engine's thread: it must not block. `cancelled` is
        asked once a step. `inside`: part of a request that was let in, never refused because the queue is full, nor because
        the engine closes as long as its thread runs; `front`: it goes before those who wait. Raises InvalidRequest, also
        where the request never fits; QueueFull; Closing.
        """
        running = self._running(generation, on_event, cancelled)
        with self._work:
            if self._broken is not None:
                raise EngineFailed("the engine has stopped") from self._broken
            if self._ended or (self._closing and not inside):
                raise Closing("the engine is shutting down")
            self.batch.scheduler.add(running, front=front, inside=inside)
            self.batch.metrics.add(requests_total=1)
            self._work.notify()
        return running.handle

    @property
    def metrics(self) -> Snapshot:
        """Counters and gauges as of now; any thread."""
        with self.batch.lock:
            waiting = self.batch.scheduler.waiting
            self.batch.metrics.set(
                queued=waiting,
                running=len(self.batch.scheduler.entries) - waiting,
                kv_tokens=self.batch.scheduler.reserved_tokens,
            )
        return self.batch.metrics.snapshot()

    def close(self, timeout: float | None = None) -> bool:
        """Take no more requests and end those that are here; after `timeout` seconds the rest is cancelled.

        Returns whether all ended by themselves.
        """
        with self._work:
            self._closing = True
            self._work.notify()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        if not self._thread.is_alive():
            return True
        with self.batch.lock:
            for running in self.batch.scheduler.entries:
                running.handle.cancel()
        self._thread.join()
        return False

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(timeout=0 if error[0] is not None else None)

    def step(self) -> bool:
        """One step; False where there was nothing to do. Only where no thread runs."""
        return self.batch.step()

    def _run(self) -> None:
        try:
            while True:
                with self._work:
                    while self.batch.scheduler.idle and not self._closing:
                        self._work.wait()
                    if self.batch.scheduler.idle:
                        self._ended = True  # under the lock: what comes now nobody would answer
                        return
                self.batch.step()
        except Exception as err:  # noqa: BLE001 -- a fault of the engine itself: everybody gets an answer, nobody waits for ever
            with self.batch.lock:
                self._broken = err
                left = list(self.batch.scheduler.entries)
            for running in left:
                self.batch.fail(running, err)

    def _running(
        self, generation: Generation, on_event: Callable[[Event], None] | None, cancelled: Callable[[], bool] | None
    ) -> Running:
        need = measure(generation, self.model, self.limits)
        return Running(
            prompt_tokens=need.prompt_tokens,
            new_tokens=need.new_tokens,
            long_rope=need.long_rope,
            guard=generation.guard and self.limits.guard,
            seconds=generation.prompt.seconds,
            blocks=need.audio_blocks,
            generation=generation,
            handle=Handle(cancelled),
            on_event=on_event,
            text=TextStream(self.vocabulary),
            submitted=self._clock(),
        )
