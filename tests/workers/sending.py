"""What tests send: calls cut from the samples, and reviews."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from kafka.partitioner.default import murmur2

from stream.audio import encode_flac
from stream.events import AudioChunk, AudioEvent, CallEnded, CallStarted, Message, Review, Role, Topics
from stream.files import AudioFile

__all__ = ["STARTED", "chunks", "ended", "messages", "review", "sample", "started", "whole_call"]

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
STARTED = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
Pcm = np.ndarray[Any, np.dtype[np.int16]]


@cache
def sample(name: str = "calls/card-fee", start_ms: int = 0, end_ms: int | None = None) -> Pcm:
    """int16 [frames, channels] of a sample, 8 kHz."""
    with AudioFile(SAMPLES / f"{name}.flac") as file:
        pcm = np.concatenate(list(file.blocks()))
    return pcm[start_ms * 8 : None if end_ms is None else end_ms * 8]


def roles_for(channels: int) -> tuple[Role, ...]:
    return ("unknown",) if channels == 1 else ("customer", "agent")


def chunks(
    call_id: str,
    pcm: Pcm,
    *,
    chunk_ms: int = 500,
    started_at: datetime = STARTED,
    codec: str = "flac",
    rate: int = 8_000,
) -> list[AudioChunk]:
    """A call's audio as its producer would cut it."""
    step = rate * chunk_ms // 1000
    pieces = [pcm[first : first + step] for first in range(0, len(pcm), step)]
    return [
        AudioChunk(
            call_id=call_id,
            call_started_at=started_at,
            codec=codec,
            rate=rate,
            channels=pcm.shape[1],
            roles=roles_for(pcm.shape[1]),
            seq=seq,
            offset_ms=seq * chunk_ms,
            duration_ms=round(len(piece) * 1000 / rate),
            value=encode_flac(piece, rate) if codec == "flac" else piece.astype("<i2").tobytes(),
        )
        for seq, piece in enumerate(pieces)
        if len(piece) >= rate // 50
    ]


def started(
    call_id: str, channels: int = 2, *, started_at: datetime = STARTED, product: str | None = "kettle"
) -> CallStarted:
    return CallStarted(
        call_id=call_id, call_started_at=started_at, channels=channels, roles=roles_for(channels), product=product
    )


def ended(call_id: str, last_seq: int, *, started_at: datetime = STARTED) -> CallEnded:
    return CallEnded(call_id=call_id, call_started_at=started_at, last_seq=last_seq)


def whole_call(call_id: str, pcm: Pcm, *, chunk_ms: int = 500, started_at: datetime = STARTED) -> list[AudioEvent]:
    """Start, audio and end."""
    audio = chunks(call_id, pcm, chunk_ms=chunk_ms, started_at=started_at)
    return [
        started(call_id, pcm.shape[1], started_at=started_at),
        *audio,
        ended(call_id, len(audio) - 1, started_at=started_at),
    ]


def review(review_id: str, text: str = "The battery is great, but delivery was late.", **fields: Any) -> Review:
    return Review(**{"review_id": review_id, "product": "kettle", "text": text, "created_at": STARTED, **fields})


def messages(topics: Topics, events: Sequence[Any]) -> list[Message]:
    return [event.to_message(topics) for event in events]


def partition_for(key: bytes, partitions: int) -> int:
    """Where Kafka's default partitioner puts the key, as Java's clients and kafka-python have it."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
