"""The running batch itself: one step, over and over. Only one thread may step; any may look, under the lock.

Cancelled requests leave, free slots are filled, clips are encoded and prompts prefilled (long ones in parts), and everybody
who is that far gets one token. A request that fails is answered by itself; the others never notice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import torch

from speech.contract import FinishReason, InvalidRequest
from speech.phi4.flight import Choice, Flight
from speech.phi4.generation import Delta, Event, Failed
from speech.phi4.graphs import DecodeGraphs
from speech.phi4.limits import Limits
from speech.phi4.metrics import Metrics
from speech.phi4.model import Phi4Model
from speech.phi4.refusals import EngineFailed
from speech.phi4.scheduler import Phase, Scheduler
from speech.phi4.sequence import Running
from speech.phi4.shared import SharedPrompts
from speech.phi4.steps import Steps

__all__ = ["Batch"]

Part = TypeVar("Part")


class Batch:
    """The requests that run or wait, and the slots they run in.

    `lock` guards `scheduler` against submitting threads; it is never held while the model computes or a callback runs.
    """

    def __init__(
        self, model: Phi4Model, limits: Limits, *, stop_ids: frozenset[int], late: bool, clock: Callable[[], float]
    ) -> None:
        self.lock = threading.Lock()
        self.metrics = Metrics()
        self.metrics.set(kv_tokens_all=sum(count * tokens for count, tokens in limits.pools))
        self.scheduler: Scheduler[Running] = Scheduler(limits)
        sizes = limits.slot_sizes
        graph_sizes = limits.graph_sizes or ()
        scratch = [1] if graph_sizes else []
        cache = model.new_cache(slot_tokens=sizes + scratch)
        graphs = DecodeGraphs(model, cache, sizes=graph_sizes, scratch=len(sizes)) if scratch else None
        if graphs is not None:
            with torch.inference_mode():
                graphs.capture()
        self.steps = Steps(model, cache, graphs)
        self._shared = SharedPrompts(model, cache, range(len(sizes) - limits.shared_slots, len(sizes)))
        self._stop_ids = stop_ids
        self._late = late
        self._flight = Flight()
        self._clock = clock

    def step(self) -> bool:
        """One step; False where there was nothing to do."""
        with self.lock:
            if self.scheduler.idle:
                return False
        started = self._clock()
        with torch.inference_mode():
            self._sweep()
            self._admit()
            before, after = self._flight, Flight()
            self._timed("encode_seconds_total", self._encode)
            self._timed("prefill_seconds_total", lambda: self._prefill(after))
            self._timed("decode_seconds_total", lambda: self._decode(before, after))
            # Late: this step runs on the device while the one before is read and told.
            self._flight = after if self._late else Flight()
            self._read(before if self._late else after)
        self.metrics.step(self._clock() - started)
        return True

    def _timed(self, name: str, part: Callable[[], None]) -> None:
        begun = self._clock()
        part()
        self.metrics.add(**{name: self._clock() - begun})

    def _sweep(self) -> None:
        with self.lock:
            entries = self.scheduler.entries
        for running in entries:
            try:
                if running.handle.cancelled:
                    self._finish(running, FinishReason.CANCELLED)
            except Exception as err:  # noqa: BLE001 -- the request's own function: it fails that request
                self.fail(running, err)

    def _admit(self) -> None:
        with self.lock:
            admitted = self.scheduler.admit()
        for running in admitted:
            running.admitted = running.encoded = self._clock()
            self._isolated([running], self._begin)

    def _begin(self, batch: Sequence[Running]) -> None:
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
                running.embeds = self.steps.embed(running, [])

    def _encode(self) -> None:
        def work(batch: Sequence[tuple[Running, int]]) -> None:
            found = self.steps.encode(batch)
            whole = [
                self.steps.embed(running, [*running.audio, audio]) if running.unheard == count else None
                for (running, count), audio in zip(batch, found, strict=True)
            ]
            for (running, count), audio, embeds in zip(batch, found, whole, strict=True):
                running.heard += count
                running.audio.append(audio)
                if embeds is not None:
                    running.audio.clear()
                    running.embeds = embeds
                    running.encoded = self._clock()
                    running.phase = Phase.PREFILL

        self._isolated(self.scheduler.to_encode(), work, lambda part: part[0])

    def _prefill(self, after: Flight) -> None:
        def work(chunks: Sequence[tuple[Running, int]]) -> None:
            tokens = self.steps.prefill(chunks)
            if tokens is not None:
                after.add(tokens)
            for running, count in chunks:
                running.cached += count
                if not running.missing:
                    running.embeds = None
                    running.phase = Phase.DECODE

        self._isolated(self.scheduler.to_prefill(), work, lambda chunk: chunk[0])

    def _decode(self, before: Flight, after: Flight) -> None:
        def work(batch: Sequence[Running]) -> None:
            for tokens in self.steps.decode(batch, before):
                after.add(tokens)

        def ready(running: Running) -> bool:
            if after.place(running) >= 0:  # its first token was just launched
                return False
            flying = before.place(running) >= 0
            # The last token it may have is under way; or its constraint has to see the one that is.
            return not flying or (len(running.token_ids) + 1 < running.new_tokens and running.constraint is None)

        self._isolated([running for running in self.scheduler.to_decode() if ready(running)], work)

    def _read(self, flight: Flight) -> None:
        try:
            found = flight.read()
        except Exception as err:  # noqa: BLE001 -- what a GPU could not do is told when it is read
            for running in flight.members:
                self.fail(running, err)
            return
        now, new = self._clock(), 0
        for running, choice in found:
            if running.phase is Phase.DONE:
                continue
            had = len(running.token_ids)
            if not running.first:
                running.first = now
                self.metrics.add(prompt_tokens_total=running.prompt_tokens, shared_tokens_total=running.shared)
            self._take(running, choice)
            new += len(running.token_ids) - had  # a stop token is none
        self.metrics.add(new_tokens_total=new)

    def _take(self, running: Running, choice: Choice) -> None:
        try:
            text, reason = running.accept(*choice, self._stop_ids)
        except Exception as err:  # noqa: BLE001 -- NaN, or a constraint that broke: this request's error alone
            self.fail(running, err)
            return
        if text:
            self._tell(running, Delta(text=text))
        if reason is not None and running.phase is not Phase.DONE:
            self._finish(running, reason)

    def _isolated(
        self,
        batch: Sequence[Part],
        work: Callable[[Sequence[Part]], None],
        request: Callable[[Part], Running] = lambda part: part,  # type: ignore[assignment,return-value]
    ) -> None:
        """`work` on the batch; if it fails, on each part alone, so that only the one at fault gets the error.

        Work changes nothing before the model has computed, so that it can be done again.
        """
        if not batch:
            return
        try:
            work(batch)
        except Exception as err:  # noqa: BLE001 -- the boundary between requests
            if len(batch) == 1:
                self.fail(request(batch[0]), err)
                return
            for part in batch:
                self._isolated([part], work, request)

    def _finish(self, running: Running, reason: FinishReason) -> None:
        rest = running.text.end()
        if rest:
            self._tell(running, Delta(text=rest))
        if not self._leave(running):
            return
        completion = running.completion(reason, self._clock())
        self.metrics.add(
            completions_total=1,
            cancelled_total=reason is FinishReason.CANCELLED,
            loops_total=reason is FinishReason.LOOP,
            audio_seconds_total=0.0 if reason is FinishReason.CANCELLED else running.seconds,
        )
        self._tell(running, completion)
        running.handle.resolve(completion)

    def fail(self, running: Running, error: Exception) -> None:
        """Answer a request with an error; nothing if it is answered already."""
        if not self._leave(running):
            return
        if not isinstance(error, (InvalidRequest, EngineFailed)):
            cause, error = error, EngineFailed(f"{type(error).__name__} while computing")  # no payload in the text
            error.__cause__ = cause
        self.metrics.add(failures_total=1)
        self._tell(running, Failed(error=error))
        running.handle.reject(error)

    def _leave(self, running: Running) -> bool:
        with self.lock:
            if running.phase is Phase.DONE:
                return False
            self.scheduler.remove(running)
        running.embeds = None
        running.audio.clear()
        return True

    def _tell(self, running: Running, event: Event) -> None:
        if running.on_event is None:
            return
        # A caller's fault must not end the batch; a request that nobody can be told of is not computed further.
        with suppress(Exception):
            running.on_event(event)
            return
        running.handle.cancel()
