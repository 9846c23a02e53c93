"""What the engine is asked for, and what it answers: one sequence of tokens, with or without audio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from speech.contract import FinishReason
from speech.phi4.modes import Mode

__all__ = ["Completion", "Constraint", "Delta", "Event", "Failed", "Generation", "Prompt", "Timings"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt:
    """Token ids, and between `before` and `after` the audio, float32 [n] at `rate` Hz.

    The first `shared` ids of `before` begin many prompts: their keys and values are computed once.
    """

    before: tuple[int, ...]
    audio: NDArray[np.float32] | None = None
    rate: int = 16_000
    after: tuple[int, ...] = ()
    shared: int = 0

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return 0.0 if self.audio is None else len(self.audio) / self.rate


class Constraint(Protocol):
    """Which tokens may come next; one object per generation."""

    def allowed(self) -> NDArray[np.bool_]:
        """Bool [vocabulary of the tokenizer or more]; at least one is True."""

    def advance(self, token_id: int) -> None:
        """The token was chosen."""

    @property
    def finished(self) -> bool:
        """Whether nothing may follow."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generation:
    """One sequence to be continued greedily.

    `guard`: a loop ends it, if the engine's limits guard at all. `forced`: stop ids are ignored, for benchmarks.
    """

    prompt: Prompt
    mode: Mode
    max_new_tokens: int
    guard: bool = True
    constraint: Callable[[], Constraint] | None = None
    forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Milliseconds: waiting for a slot, encoder, prompt up to the first token, the tokens after it. `first_ms`: from the
    request to the first token, 0 if there was none."""

    queue_ms: float
    encode_ms: float
    prefill_ms: float
    decode_ms: float
    first_ms: float

    @property
    def infer_ms(self) -> float:
        """All but waiting."""
        return self.encode_ms + self.prefill_ms + self.decode_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """Text that grew by whole characters."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A finished sequence. `token_ids` without the stop token; `mean_logprob` a token, the stop token included."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    mean_logprob: float
    timings: Timings
    long_rope: bool
    shared_tokens: int  # of the prompt, whose keys and values were there already


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The sequence ended in an error."""

    error: Exception


Event = Delta | Completion | Failed
