"""What one request makes of several sequences: a generator that asks for sequences and gets them back finished."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from speech.contract import FinishReason
from speech.phi4.generation import Completion, Generation

__all__ = ["Ask", "Say", "Work", "worst"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Sequences to run beside each other; the generator gets their completions in order. `stream`: tell of the first's text."""

    generations: Sequence[Generation]
    stream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Text for whoever streams; `restart`: what was told before no longer holds. The generator gets no completions."""

    text: str
    restart: bool = False


Work = Generator[Ask | Say, Sequence[Completion], Result]


def worst(reasons: Sequence[FinishReason]) -> FinishReason:
    """The reason of an answer that is made of several: the first of these that one of them has."""
    for reason in (FinishReason.CANCELLED, FinishReason.LOOP, FinishReason.LENGTH):
        if reason in reasons:
            return reason
    return FinishReason.STOP
