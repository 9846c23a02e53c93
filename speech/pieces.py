"""A recording's utterances, cut at once as the pipeline cuts them as they come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speech.segment import ChannelInput, ChannelState, Cut, Segmenter
from speech.twins import identical_channels

__all__ = ["Piece", "cut_channels", "cut_pieces", "distinct_channels"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """One utterance's sound: float32 [n], -1..1, at `rate` Hz. Times are ms from the start of the recording."""

    channel: int
    start_ms: int
    end_ms: int
    audio: NDArray[np.float32]
    rate: int


def distinct_channels(samples: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    """int16 [frames, channels] without the second of two channels that carry the same sound."""
    if samples.ndim != 2 or samples.dtype != np.int16:
        raise ValueError("samples must be int16 [frames, channels]")
    fake = samples.shape[1] == 2 and identical_channels(samples[:, 0], samples[:, 1], rate=rate)
    return samples[:, :1] if fake else samples


def cut_channels(samples: NDArray[np.int16], rate: int, segmenter: Segmenter) -> list[list[Cut]]:
    """Cut int16 [frames, channels] into utterances, per distinct channel."""
    return _cut(distinct_channels(samples, rate), rate, segmenter)


def _cut(heard: NDArray[np.int16], rate: int, segmenter: Segmenter) -> list[list[Cut]]:
    columns = [np.ascontiguousarray(heard[:, k]) for k in range(heard.shape[1])]
    states = [ChannelState(rate=rate) for _ in columns]
    inputs = [ChannelInput(state=state, samples=column) for state, column in zip(states, columns, strict=True)]
    cuts = segmenter.advance(inputs)
    for state, found in zip(states, cuts, strict=True):
        found += segmenter.flush(state)
    return cuts


def cut_pieces(samples: NDArray[np.int16], rate: int, segmenter: Segmenter) -> list[Piece]:
    """The utterances of int16 [frames, channels] with their sound, in order of time, then channel.

    `samples` as `distinct_channels` leaves them.
    """
    cuts = _cut(samples, rate, segmenter)
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
