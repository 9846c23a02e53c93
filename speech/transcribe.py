"""The whole speech path in one process: channels in, lines of a transcript out. No servers.

The cutting and the recognition are those of the pipeline, so this gives the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speech.contract import FinishReason, InvalidRequest
from speech.segment import ChannelInput, ChannelState, Cut, Segmenter
from speech.twins import identical_channels
from speech.whisper import Recognizer, resample

__all__ = ["Line", "Piece", "cut_channels", "cut_pieces", "text_of", "transcribe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One utterance. Times are ms from the start of the audio."""

    channel: int
    start_ms: int
    end_ms: int
    text: str
    finish_reason: FinishReason
    tokens: int
    mean_logprob: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """One utterance's sound: float32 [n], -1..1, at `rate` Hz. Times are ms from the start of the recording."""

    channel: int
    start_ms: int
    end_ms: int
    audio: NDArray[np.float32]
    rate: int


def cut_channels(samples: NDArray[np.int16], rate: int, segmenter: Segmenter) -> list[list[Cut]]:
    """Cut int16 [frames, channels] into utterances, per channel. Two channels with the same sound count as one."""
    if samples.ndim != 2 or samples.dtype != np.int16:
        raise ValueError("samples must be int16 [frames, channels]")
    columns = [np.ascontiguousarray(samples[:, k]) for k in range(samples.shape[1])]
    if len(columns) == 2 and identical_channels(columns[0], columns[1], rate=rate):
        columns.pop()
    states = [ChannelState(rate=rate) for _ in columns]
    inputs = [ChannelInput(state=state, samples=column) for state, column in zip(states, columns, strict=True)]
    cuts = segmenter.advance(inputs)
    for state, found in zip(states, cuts, strict=True):
        found += segmenter.flush(state)
    return cuts


def cut_pieces(samples: NDArray[np.int16], rate: int, segmenter: Segmenter) -> list[Piece]:
    """The utterances of int16 [frames, channels] with their sound, in order of time, then channel."""
    cuts = cut_channels(samples, rate, segmenter)
    found = [
        Piece(
            channel=channel,
            start_ms=cut.start_sample * 1000 // rate,
            end_ms=cut.end_sample * 1000 // rate,
            audio=samples[cut.start_sample : cut.end_sample, channel].astype(np.float32) / np.float32(32768),
            rate=rate,
        )
        for channel, channel_cuts in enumerate(cuts)
        for cut in channel_cuts
    ]
    return sorted(found, key=lambda piece: (piece.start_ms, piece.channel))


def transcribe(
    samples: NDArray[np.int16],
    rate: int,
    *,
    recognizer: Recognizer,
    segmenter: Segmenter,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Line]:
    """Transcribe int16 [frames, channels] at `rate` Hz; lines in order of time, then channel. Nothing said: no lines.

    `progress(done, total)` is called after each utterance. Raises ValueError for a rate that is not supported.
    """
    pieces = cut_pieces(samples, rate, segmenter)
    lines = []
    for done, piece in enumerate(pieces, start=1):
        line = _line(piece, recognizer)
        if line is not None:
            lines.append(line)
        progress(done, len(pieces))
    return lines


def text_of(lines: Sequence[Line], channel: int) -> str:
    """All that one channel said."""
    return " ".join(line.text for line in lines if line.channel == channel)


def _line(piece: Piece, recognizer: Recognizer) -> Line | None:
    try:
        said = recognizer.transcribe(resample(piece.audio, piece.rate))
    except InvalidRequest:
        return None  # shorter than the recogniser takes
    if not said.text:
        return None
    return Line(
        channel=piece.channel,
        start_ms=piece.start_ms,
        end_ms=piece.end_ms,
        text=said.text,
        finish_reason=said.finish_reason,
        tokens=said.tokens_out,
        mean_logprob=said.mean_logprob,
    )
