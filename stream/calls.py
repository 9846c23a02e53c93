"""The events of calls.audio.v1: chunks of audio, and the call's start, pauses and end.

All of one call share the key call_id and so the partition, or the end could overtake the audio. Metadata of a chunk
travels in headers and its value is the bare audio; the other events are JSON with `call_started_at` as a header.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from errors import Permanent
from stream import cloudevents
from stream.fields import (
    CallId,
    Channels,
    Codec,
    Event,
    Instant,
    LongText,
    OffsetMs,
    Payload,
    Rate,
    Role,
    Seq,
    ShortText,
    build,
    check_size,
    parse_payload,
)
from stream.headers import HeaderReader, format_instant
from stream.limits import (
    CODECS,
    MAX_CHANNELS,
    MAX_CHUNK_MS,
    MAX_OFFSET_MS,
    MAX_RATE,
    MAX_SEQ,
    MAX_VALUE_BYTES,
    MIN_CHUNK_MS,
    MIN_RATE,
)
from stream.records import Headers, Message, Record
from stream.topics import Topics

__all__ = [
    "AudioChunk",
    "AudioEvent",
    "CallEnded",
    "CallEndedData",
    "CallEvent",
    "CallMomentData",
    "CallPaused",
    "CallResumed",
    "CallStarted",
    "CallStartedData",
    "CallTimedOut",
    "CallTimedOutData",
    "call_id_of",
    "parse_audio",
]

LastSeq = Annotated[int, Field(ge=-1, le=MAX_SEQ)]  # -1: the call had no chunk at all


class CallEvent(Event):
    """What every event of a call carries. `call_started_at` never changes within a call."""

    name: ClassVar[str]

    call_id: CallId
    call_started_at: Instant

    @property
    def ce_id(self) -> str:
        return f"{self.call_id}/{self.name.rpartition('.')[2]}"

    def _headers(
        self, at: datetime | None, source: str, content_type: str, fields: dict[str, str] | None = None
    ) -> Headers:
        return cloudevents.write(
            self.name,
            id=self.ce_id,
            subject=self.call_id,
            content_type=content_type,
            time=at,
            traceparent=self.traceparent,
            source=source,
            fields={"call_started_at": format_instant(self.call_started_at), **(fields or {})},
        )

    def _after(self, offset_ms: int | None) -> datetime:
        return self.call_started_at + timedelta(milliseconds=offset_ms or 0)


class AudioChunk(CallEvent):
    """20 ms to 5 s of a call's audio, which can be decoded alone.

    `seq` counts the call's chunks from 0 without gaps; `offset_ms` is the chunk's place in the call. `value` holds
    the bytes of `codec`; l16 is little endian, its channels interleaved. `roles` names each channel's speaker.
    """

    name = "calls.audio.chunk"

    codec: Codec
    rate: Rate
    channels: Channels
    roles: tuple[Role, ...]
    seq: Seq
    offset_ms: OffsetMs
    duration_ms: Annotated[int, Field(ge=MIN_CHUNK_MS, le=MAX_CHUNK_MS)]
    value: Annotated[bytes, Field(min_length=1, max_length=MAX_VALUE_BYTES, repr=False)]

    @property
    def ce_id(self) -> str:
        return f"{self.call_id}/{self.seq}"

    @model_validator(mode="after")
    def _a_role_each(self) -> Self:
        _check_roles(self.roles, self.channels)
        return self

    def to_message(self, topics: Topics, *, at: datetime | None = None, source: str = cloudevents.SOURCE) -> Message:
        fields = {
            "codec": self.codec,
            "rate": str(self.rate),
            "channels": str(self.channels),
            "channel_roles": ",".join(self.roles),
            "seq": str(self.seq),
            "offset_ms": str(self.offset_ms),
            "duration_ms": str(self.duration_ms),
        }
        headers = self._headers(at or self._after(self.offset_ms), source, cloudevents.OCTETS, fields)
        return Message(topic=topics.calls_audio, key=self.call_id.encode(), value=self.value, headers=headers)


class _JsonCallEvent(CallEvent):
    def to_message(self, topics: Topics, *, at: datetime | None = None, source: str = cloudevents.SOURCE) -> Message:
        """The message for calls.audio; `at` is when it happened, where the event does not know better."""
        assert isinstance(self, Payload)
        happened = at or self._after(getattr(self, "offset_ms", None))
        headers = self._headers(happened, source, cloudevents.JSON)
        return Message(topic=topics.calls_audio, key=self.call_id.encode(), value=self.to_json(), headers=headers)


class CallStartedData(Payload):
    """JSON of calls.call.started.v1. Optional: a call also begins with its first chunk."""

    channels: Channels
    roles: tuple[Role, ...]
    product: ShortText | None = None
    metadata: Annotated[dict[ShortText, LongText], Field(max_length=50)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _a_role_each(self) -> Self:
        _check_roles(self.roles, self.channels)
        return self


class CallMomentData(Payload):
    """JSON of calls.call.paused.v1 and calls.call.resumed.v1: where in the call, if known."""

    offset_ms: OffsetMs | None = None


class CallEndedData(Payload):
    """JSON of calls.call.ended.v1. `last_seq` is the seq of the call's last chunk, -1 if there was none."""

    last_seq: LastSeq
    reason: ShortText = "completed"
    offset_ms: OffsetMs | None = None


class CallTimedOutData(Payload):
    """JSON of calls.call.timed_out.v1, which Earful's reaper sends. `last_seen_seq` is -1 if no chunk came."""

    last_seen_seq: LastSeq


class CallStarted(CallStartedData, _JsonCallEvent):
    """A call begins."""

    name = "calls.call.started"


class CallPaused(CallMomentData, _JsonCallEvent):
    """The recording pauses (hold, card number): silence until it resumes is no reason to close the call."""

    name = "calls.call.paused"

    @property
    def ce_id(self) -> str:
        return f"{self.call_id}/paused/{self.offset_ms}"


class CallResumed(CallMomentData, _JsonCallEvent):
    """The recording goes on."""

    name = "calls.call.resumed"

    @property
    def ce_id(self) -> str:
        return f"{self.call_id}/resumed/{self.offset_ms}"


class CallEnded(CallEndedData, _JsonCallEvent):
    """The call is over; what is missing up to `last_seq` is lost."""

    name = "calls.call.ended"


class CallTimedOut(CallTimedOutData, _JsonCallEvent):
    """The call has been silent for longer than a producer may take."""

    name = "calls.call.timed_out"

    @property
    def ce_id(self) -> str:
        return f"{self.call_id}/timed_out/{self.last_seen_seq}"


AudioEvent = AudioChunk | CallStarted | CallPaused | CallResumed | CallEnded | CallTimedOut

_CONTROL: dict[str, tuple[type[AudioEvent], type[Payload]]] = {
    CallStarted.name: (CallStarted, CallStartedData),
    CallPaused.name: (CallPaused, CallMomentData),
    CallResumed.name: (CallResumed, CallMomentData),
    CallEnded.name: (CallEnded, CallEndedData),
    CallTimedOut.name: (CallTimedOut, CallTimedOutData),
}
_KNOWN = frozenset({AudioChunk.name, *_CONTROL})


def parse_audio(record: Record) -> AudioEvent:
    """The event that a record of calls.audio.v1 is. Raises errors.Permanent; does not decode the audio."""
    headers = HeaderReader(record.headers)
    name = cloudevents.event_name(headers, known=_KNOWN)
    call_id = call_id_of(record)
    if name == AudioChunk.name:
        return _parse_chunk(record, call_id, headers)
    event, model = _CONTROL[name]
    started = headers.instant("call_started_at")
    payload = parse_payload(model, record.value)
    return build(event, call_id=call_id, call_started_at=started, traceparent=headers.traceparent(), **dict(payload))


def call_id_of(record: Record) -> str:
    """The record's key as a call_id."""
    if record.key is None:
        raise Permanent("missing_call_id", "the record has no key")
    try:
        return record.key.decode("utf-8")  # length and characters are checked by the event
    except UnicodeDecodeError as err:
        raise Permanent("invalid_call_id", "the key is not UTF-8") from err


def _parse_chunk(record: Record, call_id: str, headers: HeaderReader) -> AudioChunk:
    codec = headers.text("codec")
    if codec not in CODECS:
        raise Permanent("unsupported_codec", f"the codec is none of {', '.join(CODECS)}")
    channels = headers.integer("channels", 1, MAX_CHANNELS, reason="unsupported_channels")
    rate = headers.integer("rate", MIN_RATE, MAX_RATE, reason="unsupported_rate")
    if not record.value:
        raise Permanent("empty_chunk", "the chunk holds no audio")
    check_size(record.value)
    return build(
        AudioChunk,
        call_id=call_id,
        call_started_at=headers.instant("call_started_at"),
        traceparent=headers.traceparent(),
        codec=codec,
        rate=rate,
        channels=channels,
        roles=_roles(headers, channels),
        seq=headers.integer("seq", 0, MAX_SEQ),
        offset_ms=headers.integer("offset_ms", 0, MAX_OFFSET_MS),
        duration_ms=headers.integer("duration_ms", MIN_CHUNK_MS, MAX_CHUNK_MS),
        value=record.value,
    )


def _roles(headers: HeaderReader, channels: int) -> tuple[str, ...]:
    if "channel_roles" not in headers:
        return ("unknown",) * channels
    roles = tuple(role.strip() for role in headers.text("channel_roles").split(","))
    if not set(roles) <= {"customer", "agent", "unknown"}:
        raise Permanent("invalid_header", "channel_roles holds something else than customer, agent, unknown")
    return roles


def _check_roles(roles: tuple[Role, ...], channels: int) -> None:
    if len(roles) != channels:
        raise PydanticCustomError("roles_mismatch", "there must be one role for each channel")
