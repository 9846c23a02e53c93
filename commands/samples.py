"""The samples, sent as producers would send them: live calls, recordings, a lossy link, and records that are broken."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from settings import PROJECT, Settings
from stream.audio import encode_flac
from stream.events import CallEnded, CallStarted, Message, Review, Topics
from stream.files import read_file
from stream.framing import ChunkCounter, pieces
from stream.producers import CallProducer, ReviewProducer
from stream.review_files import read_reviews
from stream.sender import Sender
from workers import kafka

__all__ = ["Manifest", "send_samples"]

SAMPLES = PROJECT / "samples"
#: One telephone frame.
FRAME_MS = 20

Pcm = np.ndarray[Any, np.dtype[np.int16]]


class Manifest:
    """samples/manifest.json: how each file is sent and what is expected of it."""

    def __init__(self, folder: Path = SAMPLES) -> None:
        self.folder = folder
        plain = json.loads((folder / "manifest.json").read_text())
        self.calls: list[dict[str, Any]] = plain["calls"]
        self.poison: list[dict[str, Any]] = plain["poison"]
        self.reviews = folder / plain["reviews"]

    def poison_reasons(self) -> set[tuple[str, str]]:
        """Topic and reason of the dead letters that the poison records become."""
        return {(record["topic"], record["expect"]["reason"]) for record in self.poison}

    @cached_property
    def review_states(self) -> dict[str, bool]:
        """Review id -> whether it is still there after all edits and deletions. Read once: `demo` asks twice a second."""
        return {event.review_id: isinstance(event, Review) for event in read_reviews(self.reviews)}


def send_samples(manifest: Manifest, using: Settings) -> None:
    """Everything in the manifest, in its order."""
    options = {"prefix": using.topic_prefix, **kafka.security(using)}
    with CallProducer(using.kafka_bootstrap_servers, **options) as producer:
        for call in manifest.calls:
            if call["drop_seq"]:
                continue
            send_call(producer, manifest.folder, call)
    with ReviewProducer(using.kafka_bootstrap_servers, **options) as reviews:
        for event in read_reviews(manifest.reviews):
            if isinstance(event, Review):
                reviews.send(event)
            else:
                reviews.delete(event.review_id, version=event.version)
    topics = Topics(using.topic_prefix)
    with Sender(using.kafka_bootstrap_servers, **kafka.security(using)) as sender:
        for call in manifest.calls:
            if call["drop_seq"]:
                for message in lossy(manifest.folder, call, topics):
                    sender.send(message)
        for record in manifest.poison:
            sender.send(poisoned(record, topics))


def send_call(producer: CallProducer, folder: Path, call: dict[str, Any]) -> None:
    """As a recording, or frame by frame as a telephone switch would."""
    started_at = datetime.fromisoformat(call["call_started_at"])
    if call["codec"] == "flac":
        producer.send_recording(
            folder / call["file"],
            call_id=call["call_id"],
            roles=call["roles"],
            started_at=started_at,
            product=call["product"],
            piece_ms=call["chunk_ms"],
        )
        return
    pcm, rate = read_file(folder / call["file"])
    live = producer.call(
        call["call_id"],
        rate=rate,
        channels=pcm.shape[1],
        roles=call["roles"],
        codec=call["codec"],
        started_at=started_at,
        product=call["product"],
        chunk_ms=call["chunk_ms"],
    )
    frame = rate * FRAME_MS // 1000
    for first in range(0, len(pcm), frame):
        live.write(encoded(pcm[first : first + frame], call["codec"], rate))
    live.end()


def encoded(pcm: Pcm, codec: str, rate: int) -> bytes:
    if codec == "l16":
        return pcm.astype("<i2").tobytes()
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, rate, format="RAW", subtype={"pcmu": "ULAW", "pcma": "ALAW"}[codec])
    return buffer.getvalue()


def lossy(folder: Path, call: dict[str, Any], topics: Topics) -> Iterable[Message]:
    """A call some of whose chunks never arrive; no producer of ours loses any, so they are left out here."""
    pcm, rate = read_file(folder / call["file"])
    counter = ChunkCounter(
        call_id=call["call_id"],
        call_started_at=datetime.fromisoformat(call["call_started_at"]),
        codec="flac",
        rate=rate,
        channels=pcm.shape[1],
        roles=tuple(call["roles"]),
    )
    yield CallStarted(
        channels=counter.channels, roles=counter.roles, product=call["product"], **counter.identity()
    ).to_message(topics)
    for piece in pieces([pcm], rate * call["chunk_ms"] // 1000, counter.least_frames):
        chunk = counter.chunk(encode_flac(piece, rate), len(piece))
        counter.sent(len(piece))
        if chunk.seq not in call["drop_seq"]:
            yield chunk.to_message(topics)
    yield CallEnded(last_seq=counter.next_seq - 1, **counter.identity()).to_message(topics)


def poisoned(record: dict[str, Any], topics: Topics) -> Message:
    return Message(
        topic=getattr(topics, record["topic"]),
        key=record["key"].encode(),
        value=base64.b64decode(record["value_base64"]),
        headers=tuple((name, value.encode()) for name, value in record["headers"].items()),
    )
