"""The running batch: one thread that owns the model, requests that join and leave while it runs.

    engine = Engine(model, limits, vocabulary=Vocabulary(tokenizer), stop_ids=(200020, 199999))
    completion = engine.submit(generation).result()

A step: cancelled requests leave, free slots are filled, clips are encoded, prompts prefilled (long ones in chunks), and
everybody who is that far gets one token. A request that fails is answered by itself; the others never notice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

import torch

from speech.contract import FinishReason, InvalidRequest
from speech.phi4.admission import measure
from speech.phi4.generation import Completion, Delta, Event, Failed, Generation
from speech.phi4.handle import Handle
from speech.phi4.limits import Limits
from speech.phi4.metrics import Metrics, Snapshot
from speech.phi4.model import Phi4Model
from speech.phi4.refusals import Closing, EngineFailed, QueueFull
from speech.phi4.scheduler import Phase, Scheduler
from speech.phi4.sequence import Running
from speech.phi4.shared import SharedPrompts
from speech.phi4.steps import Choice, Steps
from speech.phi4.stream import TextStream, Vocabulary

__all__ = ["Engine"]

Part = TypeVar("Part")
Result = TypeVar("Result")


class Engine:
    """See the module. `run` False starts no thread: the caller calls `step`, as tests do."""

    def __init__(
        self,
        model: Phi4Model,
        limits: Limits,
        *,
        vocabulary: Vocabulary,
        stop_ids: Iterable[int],
        run: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.limits = limits
        self.model = model
        self.vocabulary = vocabulary
        self._stop_ids = frozenset(stop_ids)
        self._clock = clock
        sizes = limits.slot_sizes
        cache = model.new_cache(slot_tokens=sizes)
        self._steps = Steps(model, cache)
        self._shared = SharedPrompts(model, cache, range(len(sizes) - limits.shared_slots, len(sizes)))
        self._scheduler: Scheduler[Running] = Scheduler(limits)
        self._metrics = Metrics()
        self._metrics.set(kv_tokens_all=sum(count * tokens for count, tokens in limits.pools))
        # Guards the scheduler against submitting threads; never held while the model computes or a callback runs.
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._closing = False
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
        asked once a step. `inside`: part of a request that was let in, never refused because the queue is full or the
        engine closes; `front`: it goes before those who wait. Raises InvalidRequest, also where the request never fits;
        QueueFull; Closing.
        """
        try:
            running = self._running(generation, on_event, cancelled)
        except InvalidRequest:
            self._metrics.add(refused_invalid_total=1)
            raise
        with self._work:
            if self._broken is not None:
                raise EngineFailed("the engine has stopped") from self._broken
            if self._closing and not inside:
                raise Closing("the engine is shutting down")
            try:
                self._scheduler.add(running, front=front, inside=inside)
            except QueueFull:
                self._metrics.add(refused_full_total=1)
                raise
            except InvalidRequest:
                self._metrics.add(refused_invalid_total=1)
                raise
            self._metrics.add(requests_total=1)
            self._work.notify()
        return running.handle

    @property
    def metrics(self) -> Snapshot:
        """Counters and gauges as of now; any thread."""
        with self._lock:
            waiting = self._scheduler.waiting
            self._metrics.set(
                queued=waiting,
                running=len(self._scheduler.entries) - waiting,
                kv_tokens=self._scheduler.reserved_tokens,
            )
        return self._metrics.snapshot()

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
        with self._lock:
            for running in self._scheduler.entries:
                running.handle.cancel()
        self._thread.join()
        return False

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(timeout=0 if error[0] is not None else None)

    def step(self) -> bool:
        """One step; False where there was nothing to do. Only for the engine's thread, or where there is none."""
        with self._lock:
            if self._scheduler.idle:
                return False
        started = self._clock()
        with torch.inference_mode():
            self._sweep()
            self._admit()
            for phase in (self._encode, self._prefill, self._decode):
                before = self._clock()
                phase()
                self._metrics.add(**{f"{phase.__name__[1:]}_seconds_total": self._clock() - before})
        self._metrics.step(self._clock() - started)
        return True

    def _run(self) -> None:
        try:
            while True:
                with self._work:
                    while self._scheduler.idle and not self._closing:
                        self._work.wait()
                    if self._scheduler.idle:
                        return
                self.step()
        except Exception as err:  # noqa: BLE001 -- a fault of the engine itself: everybody gets an answer, nobody waits for ever
            with self._lock:
                self._broken = err
                left = list(self._scheduler.entries)
            for running in left:
                self._fail(running, err)

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
            generation=generation,
            handle=Handle(cancelled),
            on_event=on_event,
            text=TextStream(self.vocabulary),
            submitted=self._clock(),
        )

    def _sweep(self) -> None:
        with self._lock:
            entries = self._scheduler.entries
        for running in entries:
            try:
                if running.handle.cancelled:
                    self._finish(running, FinishReason.CANCELLED)
            except Exception as err:  # noqa: BLE001 -- the request's own function: it fails that request
                self._fail(running, err)

    def _admit(self) -> None:
        with self._lock:
            admitted = self._scheduler.admit()
        for running in admitted:
            running.admitted = running.encoded = self._clock()
            self._isolated([running], self._begin)

    def _begin(self, batch: Sequence[Running]) -> list[None]:
        for running in batch:
            generation = running.generation
            if generation.constraint is not None:
                running.constraint = generation.constraint()
            # The last token is always computed: its logits choose the first of the answer.
            count = min(generation.prompt.shared, running.prompt_tokens - 1)
            begins = generation.prompt.before[:count]
            running.shared = self._shared.copy(begins, generation.mode, running.long_rope, running.slot)
            running.cached = running.shared
            if not running.seconds:
                running.embeds = self._steps.embed(running, None)
        return [None] * len(batch)

    def _encode(self) -> None:
        def work(batch: Sequence[Running]) -> list[None]:
            found = self._steps.encode(batch)
            for running, audio in zip(batch, found, strict=True):
                running.embeds = self._steps.embed(running, audio)
                running.encoded = self._clock()
                running.phase = Phase.PREFILL
            return [None] * len(batch)

        self._isolated(self._scheduler.to_encode(), work)

    def _prefill(self) -> None:
        chunks = self._scheduler.to_prefill()
        for (running, count), choice in self._isolated(chunks, self._steps.prefill, lambda chunk: chunk[0]):
            running.cached += count
            if choice is not None:
                running.embeds = None
                running.phase = Phase.DECODE
                running.first = self._clock()
                self._metrics.add(prompt_tokens_total=running.prompt_tokens, shared_tokens_total=running.shared)
                self._take(running, choice)

    def _decode(self) -> None:
        for running, choice in self._isolated(self._scheduler.to_decode(), self._steps.decode):
            self._take(running, choice)

    def _take(self, running: Running, choice: Choice) -> None:
        try:
            text, reason = running.accept(*choice, self._stop_ids)
        except Exception as err:  # noqa: BLE001 -- NaN, or a constraint that broke: this request's error alone
            self._fail(running, err)
            return
        self._metrics.add(new_tokens_total=1)
        if text:
            self._tell(running, Delta(text=text))
        if reason is not None and running.phase is not Phase.DONE:
            self._finish(running, reason)

    def _isolated(
        self,
        batch: Sequence[Part],
        work: Callable[[Sequence[Part]], Sequence[Result]],
        request: Callable[[Part], Running] = lambda part: part,  # type: ignore[assignment,return-value]
    ) -> list[tuple[Part, Result]]:
        """`work` on the batch; if it fails, on each part alone, so that only the one at fault gets the error."""
        if not batch:
            return []
        try:
            return list(zip(batch, work(batch), strict=True))
        except Exception as err:  # noqa: BLE001 -- the boundary between requests
            if len(batch) == 1:
                self._fail(request(batch[0]), err)
                return []
        return [pair for part in batch for pair in self._isolated([part], work, request)]

    def _finish(self, running: Running, reason: FinishReason) -> None:
        rest = running.text.end()
        if rest:
            self._tell(running, Delta(text=rest))
        if not self._leave(running):
            return
        completion = running.completion(reason, self._clock())
        self._metrics.add(
            completions_total=1,
            cancelled_total=reason is FinishReason.CANCELLED,
            loops_total=reason is FinishReason.LOOP,
            audio_seconds_total=running.seconds,
        )
        self._tell(running, completion)
        running.handle.resolve(completion)

    def _fail(self, running: Running, error: Exception) -> None:
        if not self._leave(running):
            return
        if not isinstance(error, (InvalidRequest, EngineFailed)):
            cause, error = error, EngineFailed(f"{type(error).__name__} while computing")  # no payload in the text
            error.__cause__ = cause
        self._metrics.add(failures_total=1)
        self._tell(running, Failed(error=error))
        running.handle.reject(error)

    def _leave(self, running: Running) -> bool:
        with self._lock:
            if running.phase is Phase.DONE:
                return False
            self._scheduler.remove(running)
        running.embeds = None
        return True

    def _tell(self, running: Running, event: Event) -> None:
        if running.on_event is None:
            return
        # A caller's fault must not end the batch; a request that nobody can be told of is not computed further.
        with suppress(Exception):
            running.on_event(event)
            return
        running.handle.cancel()
