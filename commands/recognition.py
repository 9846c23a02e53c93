"""Recordings to lines in this process, by either engine: everything is cut first, then asked for at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from commands.context import watched
from speech.contract import FinishReason, UnsupportedTask
from speech.pieces import Piece, cut_pieces, distinct_channels
from speech.segment import Segmenter
from speech.whisper import RATE, DecodeOptions, Recognizer, resample

__all__ = [
    "LONGEST_SECONDS",
    "Engine",
    "Line",
    "Pcm",
    "Recording",
    "Said",
    "Whisper",
    "lines_of",
    "texts_of",
]

#: What engines are made for; a longer clip is cut into utterances first.
LONGEST_SECONDS = 30.0

Pcm = NDArray[np.int16]
Recording = tuple[Pcm, int]  # int16 [frames, channels] and its rate
#: channel, role, start_ms, end_ms, text, finish_reason, tokens, mean_logprob, and the engine's own.
Line = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An engine's answer for one piece. `more` is what only this engine tells, such as token_ids."""

    text: str
    finish_reason: FinishReason
    tokens: int
    mean_logprob: float
    more: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """What the commands need of an engine."""

    def answers(self, pieces: Sequence[Piece]) -> list[Said | None]:
        """One for each piece, in order; None for one shorter than the engine takes. Raises Permanent for any other refusal."""

    def wholes(self, recordings: Sequence[Recording], roles: Sequence[str]) -> list[Said]:
        """One for each recording, a summary or free text; raises Permanent for a refusal. `roles` are those of the channels."""


class Whisper:
    """Whisper on every core, one piece after the other."""

    def __init__(self, weights: Path, *, language: str | None = None, max_tokens: int | None = None) -> None:
        self._recognizer = Recognizer(str(weights), threads=os.cpu_count() or 1)
        self._language = language
        self._max_tokens = max_tokens

    @property
    def languages(self) -> list[str]:
        """What these weights know, ISO 639-1."""
        return sorted(self._recognizer.capabilities.languages)

    def answers(self, pieces: Sequence[Piece]) -> list[Said | None]:
        """See Engine."""
        return [self._answer(piece) for piece in watched(pieces, "recognizing")]

    def wholes(self, recordings: Sequence[Recording], roles: Sequence[str]) -> list[Said]:
        """See Engine."""
        raise UnsupportedTask("whisper does not summarize, nor write free text")

    def _answer(self, piece: Piece) -> Said | None:
        audio = resample(piece.audio, piece.rate)
        if len(audio) < DecodeOptions().min_seconds * RATE:
            return None
        said = self._recognizer.transcribe(audio, language=self._language, max_tokens=self._max_tokens)
        return Said(
            text=said.text, finish_reason=said.finish_reason, tokens=said.tokens_out, mean_logprob=said.mean_logprob
        )


def lines_of(
    recordings: Sequence[Recording], engine: Engine, segmenter: Segmenter, roles: Sequence[str] = ()
) -> tuple[list[list[Line]], int]:
    """The lines of each recording, int16 [frames, channels] at a rate, in order of time.

    What holds no text is left out, unless the answer was cut off before it. And how many pieces were too short for the
    engine. `roles` are those of the channels: nobody knows who speaks where there are more or fewer, or, as in the pipeline,
    where two channels carry the same sound. All recordings are in the engine at once. Raises ValueError for a rate that is
    not supported, Permanent for what the engine refuses.
    """
    heard = [distinct_channels(pcm, rate) for pcm, rate in recordings]
    cut = [cut_pieces(pcm, rate, segmenter) for pcm, (_, rate) in zip(heard, recordings, strict=True)]
    found = engine.answers([piece for pieces in cut for piece in pieces])
    answers = iter(found)
    lines = []
    for pieces, own, (pcm, _) in zip(cut, heard, recordings, strict=True):
        named = roles if own.shape[1] == pcm.shape[1] == len(roles) else ()
        spoken = [_line(piece, next(answers), named) for piece in pieces]
        lines.append([line for line in spoken if line is not None])
    return lines, found.count(None)


def texts_of(
    clips: Sequence[tuple[NDArray[np.float32], int]], engine: Engine, segmenter: Segmenter
) -> tuple[list[str], int]:
    """The text of each clip, float32 [n] at a rate, and how many pieces were too short for the engine.

    A clip of more than 30 s is cut first; all are in the engine at once. Raises what `lines_of` raises.
    """
    cut = [_pieces(audio, rate, segmenter) for audio, rate in clips]
    found = engine.answers([piece for pieces in cut for piece in pieces])
    answers = iter(found)
    texts = []
    for pieces in cut:
        said = [answer for _ in pieces if (answer := next(answers)) is not None]
        texts.append(" ".join(answer.text for answer in said if answer.text))
    return texts, found.count(None)


def _pieces(audio: NDArray[np.float32], rate: int, segmenter: Segmenter) -> list[Piece]:
    if len(audio) <= LONGEST_SECONDS * rate:
        return [Piece(channel=0, start_ms=0, end_ms=len(audio) * 1000 // rate, audio=audio, rate=rate)]
    pcm = np.clip(np.round(audio * 32768), -32768, 32767).astype(np.int16)
    return cut_pieces(pcm[:, None], rate, segmenter)


def _line(piece: Piece, answer: Said | None, roles: Sequence[str]) -> Line | None:
    if answer is None or not (answer.text or answer.finish_reason is FinishReason.LENGTH):
        return None
    return {
        "channel": piece.channel,
        "role": roles[piece.channel] if piece.channel < len(roles) else "unknown",
        "start_ms": piece.start_ms,
        "end_ms": piece.end_ms,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "tokens": answer.tokens,
        "mean_logprob": answer.mean_logprob,
        **answer.more,
    }
