"""One request inside the engine: what was generated, and when what happened."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from speech.contract import FinishReason
from speech.phi4.generation import Completion, Constraint, Event, Generation, Timings
from speech.phi4.handle import Handle
from speech.phi4.loops import repeats
from speech.phi4.refusals import EngineFailed
from speech.phi4.scheduler import Entry
from speech.phi4.stream import TextStream

__all__ = ["Running"]


@dataclass(slots=True, kw_only=True, eq=False)
class Running(Entry):
    """A request from `submit` to its answer. Times are seconds of one clock; 0: not yet."""

    generation: Generation
    handle: Handle[Completion]
    on_event: Callable[[Event], None] | None
    text: TextStream
    long_rope: bool
    guard: bool
    constraint: Constraint | None = None
    audio: list[Tensor] = field(default_factory=list)  # embeddings of the blocks that are encoded, until all are
    embeds: Tensor | None = None  # of the prompt without its shared beginning, until it is prefilled
    shared: int = 0
    token_ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    chosen: int = 0
    submitted: float = 0.0
    admitted: float = 0.0
    encoded: float = 0.0
    first: float = 0.0

    def accept(self, token_id: int, logprob: float, stop_ids: frozenset[int]) -> tuple[str, FinishReason | None]:
        """Take the next token; returns the text it completes, and why the answer ends if it does.

        Raises EngineFailed where the model gave no number.
        """
        if not math.isfinite(logprob):
            raise EngineFailed("the model gave logits that are no numbers")
        self.logprob += logprob
        self.chosen += 1
        if token_id in stop_ids and not self.generation.forced:
            return "", FinishReason.STOP
        self.token_ids.append(token_id)
        if self.constraint is not None:
            self.constraint.advance(token_id)
        return self.text.add(token_id), self._ends()

    def allowed(self) -> NDArray[np.bool_] | None:
        """The constraint's mask, or None."""
        return None if self.constraint is None else self.constraint.allowed()

    def completion(self, reason: FinishReason, now: float) -> Completion:
        """The answer as of `now`."""
        admitted = self.admitted or now
        encoded = self.encoded or admitted
        first = self.first or now
        return Completion(
            token_ids=tuple(self.token_ids),
            text=self.text.text,
            finish_reason=reason,
            prompt_tokens=self.prompt_tokens,
            mean_logprob=self.logprob / self.chosen if self.chosen else 0.0,
            timings=Timings(
                queue_ms=1e3 * (admitted - self.submitted),
                encode_ms=1e3 * (encoded - admitted),
                prefill_ms=1e3 * max(0.0, first - encoded),
                decode_ms=1e3 * (now - first),
                first_ms=1e3 * (self.first - self.submitted) if self.first else 0.0,
            ),
            long_rope=self.long_rope,
            shared_tokens=self.shared,
        )

    def _ends(self) -> FinishReason | None:
        if self.constraint is not None and self.constraint.finished:
            return FinishReason.STOP
        if len(self.token_ids) >= self.new_tokens:
            return FinishReason.LENGTH
        # A constraint bounds every list and text by itself, and its brackets repeat.
        if self.guard and self.constraint is None and repeats(self.token_ids):
            return FinishReason.LOOP
        return None
