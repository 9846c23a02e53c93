"""The public producers: calls and reviews into Earful's topics.

    with CallProducer("localhost:9092") as producer:
        call = producer.call("call-17", rate=8000, channels=2, roles=("customer", "agent"), codec="pcmu")
        for frame in frames:            # 20 ms each, both channels interleaved
            call.write(frame)
        call.end()
        producer.send_recording("call-18.mp3", call_id="call-18", roles=("customer", "agent"))

    with ReviewProducer("localhost:9092") as producer:
        producer.send({"review_id": "r-1", "product": "kettle", "text": "Fast!", "created_at": "2026-05-01T12:00:00Z"})
        producer.delete("r-0")

Every record can be decoded alone and stays below the broker's usual limit of 1 MB. Sending is idempotent and waits
for all replicas. `send` and `write` return before the acknowledgement and block while too much is in flight; a
failed delivery is raised by the next call, by `flush`, or at the end of the `with` block, never dropped. A block that
an error of your own leaves still sends what it was given, for up to 10 s; what fails is noted on that error.
SASL, TLS and other settings of kafka-python pass through as keyword arguments (security_protocol="SASL_SSL",
sasl_mechanism="SCRAM-SHA-512", sasl_plain_username=..., ssl_cafile=...).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from stream.audio import encode_flac
from stream.calls import AudioEvent, CallEnded, CallStarted
from stream.fields import Codec, Role
from stream.files import AudioFile, UnreadableAudio
from stream.framing import ChunkCounter, pieces
from stream.limits import MAX_CHUNK_MS
from stream.live import LiveCall
from stream.reviews import Review, ReviewDeleted, review_from
from stream.sender import DELIVERY_TIMEOUT_SECONDS, MAX_IN_FLIGHT_BYTES, DeliveryError, MessageTooLarge, Sender
from stream.topics import Topics

__all__ = ["CallProducer", "DeliveryError", "LiveCall", "MessageTooLarge", "ReviewProducer", "SentCall"]

# Live audio: 5 records a second and call. Shorter costs the broker, longer the analyst's patience.
LIVE_CHUNK_MS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SentCall:
    """What `send_recording` handed to Kafka."""

    call_id: str
    call_started_at: datetime
    rate: int
    channels: int
    chunks: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class _Samples:
    """An array in the shape of an AudioFile."""

    samples: NDArray[np.int16]
    rate: int

    @property
    def channels(self) -> int:
        return int(self.samples.shape[1])

    def blocks(self) -> Iterator[NDArray[np.int16]]:
        yield self.samples


def _open(recording: Path | str | NDArray[np.int16], rate: int | None) -> AbstractContextManager[AudioFile | _Samples]:
    if not isinstance(recording, np.ndarray):
        return AudioFile(recording)
    if rate is None:
        raise ValueError("samples need their rate in Hz")
    if recording.dtype != np.int16 or recording.ndim not in (1, 2):
        raise ValueError("samples are int16, [frames] or [frames, channels]")
    return nullcontext(_Samples(recording.reshape(len(recording), -1), rate))


def _roles(roles: Sequence[Role] | None, channels: int) -> tuple[Role, ...]:
    unknown: Role = "unknown"
    return tuple(roles) if roles is not None else (unknown,) * channels


class _Producer:
    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        *,
        prefix: str = "",
        source: str = "/earful/producer",
        timeout_seconds: float = DELIVERY_TIMEOUT_SECONDS,
        max_in_flight_bytes: int = MAX_IN_FLIGHT_BYTES,
        **kafka_options: object,
    ) -> None:
        """Connect. `prefix` stands before every topic's name, `source` is the events' CloudEvents source.

        Raises DeliveryError if no broker answers within 30 s (or `timeout_seconds`, if shorter).
        """
        self._topics = Topics(prefix)
        self._source = source
        self._sender = Sender(
            bootstrap_servers,
            timeout_seconds=timeout_seconds,
            max_in_flight_bytes=max_in_flight_bytes,
            **kafka_options,
        )

    def flush(self) -> None:
        """Wait until everything sent is acknowledged. Raises DeliveryError otherwise."""
        self._sender.flush()

    def close(self) -> None:
        """Flush and close the connection. Raises DeliveryError as `flush` does."""
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender.__exit__(kind, error, trace)


class CallProducer(_Producer):
    """Sends calls to calls.audio.v1, live or as whole recordings. Calls may be sent by several threads, one each."""

    def call(
        self,
        call_id: str,
        *,
        rate: int,
        channels: int = 1,
        roles: Sequence[Role] | None = None,
        codec: Codec = "pcmu",
        started_at: datetime | None = None,
        product: str | None = None,
        metadata: Mapping[str, str] | None = None,
        chunk_ms: int = LIVE_CHUNK_MS,
        traceparent: str | None = None,
    ) -> LiveCall:
        """Begin a call and send its start.

        `roles` says who speaks on each channel, "unknown" where not given; Earful never guesses. `started_at` (aware;
        now, if absent) is part of the call's identity: a producer that goes on with a call repeats it. `chunk_ms` is
        how much audio a record holds, usually 200 to 500; `rate` is one of stream.limits.RATES. Raises ValueError
        (pydantic's ValidationError is one) for anything out of bounds.
        """
        counter = ChunkCounter(
            call_id=call_id,
            call_started_at=started_at or datetime.now(UTC),
            codec=codec,
            rate=rate,
            channels=channels,
            roles=_roles(roles, channels),
            traceparent=traceparent,
        )
        live = LiveCall(self._send, counter, chunk_ms=chunk_ms)
        self._send_start(counter, product, metadata)
        return live

    def send_recording(
        self,
        recording: Path | str | NDArray[np.int16],
        *,
        call_id: str,
        rate: int | None = None,
        roles: Sequence[Role] | None = None,
        codec: Literal["flac", "l16"] = "flac",
        started_at: datetime | None = None,
        product: str | None = None,
        metadata: Mapping[str, str] | None = None,
        realtime: bool = False,
        piece_ms: int | None = None,
        traceparent: str | None = None,
        on_progress: Callable[[int], None] = lambda sent_ms: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> SentCall:
        """Send a whole call: any audio file that FFmpeg reads, or int16 [frames] or [frames, channels] at `rate` Hz,
        one of stream.limits.RATES; a file of another rate is resampled to the next higher.

        It travels in pieces of 5 s, each a complete FLAC (or L16), and is read as it is sent, so memory stays small.
        With `realtime` a piece of 200 ms leaves when it would have been spoken. `on_progress` gets the milliseconds
        sent so far. Returns when all is handed over, not when it is acknowledged: `flush` or close for that.
        Raises UnreadableAudio (after which a call that had begun is ended with the reason "producer_error"),
        ValueError or DeliveryError.
        """
        if piece_ms is None:
            piece_ms = LIVE_CHUNK_MS if realtime else MAX_CHUNK_MS
        with _open(recording, rate) as source:
            counter = ChunkCounter(
                call_id=call_id,
                call_started_at=started_at or datetime.now(UTC),
                codec=codec,
                rate=source.rate,
                channels=source.channels,
                roles=_roles(roles, source.channels),
                traceparent=traceparent,
            )
            self._send_start(counter, product, metadata)
            try:
                self._send_pieces(
                    counter,
                    source,
                    codec=codec,
                    piece_ms=piece_ms,
                    realtime=realtime,
                    on_progress=on_progress,
                    clock=clock,
                    sleep=sleep,
                )
            except DeliveryError:
                raise  # nor would the end arrive
            except BaseException:
                self._send_end(counter, "producer_error")
                raise
            self._send_end(counter, "completed")
        return SentCall(
            call_id=call_id,
            call_started_at=counter.call_started_at,
            rate=source.rate,
            channels=source.channels,
            chunks=counter.next_seq,
            duration_ms=counter.position_ms,
        )

    def _send_pieces(
        self,
        counter: ChunkCounter,
        source: AudioFile | _Samples,
        *,
        codec: Codec,
        piece_ms: int,
        realtime: bool,
        on_progress: Callable[[int], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        begun = clock()
        for piece in pieces(source.blocks(), source.rate * piece_ms // 1000, counter.least_frames):
            value = encode_flac(piece, source.rate) if codec == "flac" else piece.astype("<i2").tobytes()
            chunk = counter.chunk(value, len(piece))
            if realtime:
                spoken = (chunk.offset_ms + chunk.duration_ms) / 1000
                sleep(max(0.0, begun + spoken - clock()))
            self._send(chunk)
            counter.sent(len(piece))
            on_progress(counter.position_ms)
        if counter.next_seq == 0:
            raise UnreadableAudio("the recording holds no audio")

    def _send_end(self, counter: ChunkCounter, reason: str) -> None:
        self._send(
            CallEnded(last_seq=counter.next_seq - 1, reason=reason, offset_ms=counter.position_ms, **counter.identity())
        )

    def _send_start(self, counter: ChunkCounter, product: str | None, metadata: Mapping[str, str] | None) -> None:
        start = CallStarted(
            channels=counter.channels,
            roles=counter.roles,
            product=product,
            metadata=dict(metadata or {}),
            **counter.identity(),
        )
        self._send(start)

    def _send(self, event: AudioEvent) -> None:
        self._sender.send(event.to_message(self._topics, source=self._source))


class ReviewProducer(_Producer):
    """Sends reviews, their new versions and their deletions to reviews.submitted.v1."""

    def send(self, review: Review | Mapping[str, object]) -> None:
        """Send a review; a mapping has the fields of Review (docs/events.md), others are ignored.

        Raises pydantic's ValidationError, a ValueError that names the field, or DeliveryError.
        """
        event = review if isinstance(review, Review) else review_from(review)
        self._sender.send(event.to_message(self._topics, source=self._source))

    def delete(self, review_id: str, *, version: int | None = None) -> None:
        """Delete a review and all results of it; with `version`, only if no higher one came."""
        event = ReviewDeleted(review_id=review_id, version=version)
        self._sender.send(event.to_message(self._topics, at=datetime.now(UTC), source=self._source))
