"""The events of calls.utterances.v1 and calls.transcribed.v1, which only Earful itself produces."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from errors import Permanent
from stream import cloudevents
from stream.calls import CallEvent, call_id_of
from stream.fields import OffsetMs, Payload, Rate, Role, ShortText, build, check_size, parse_payload
from stream.headers import HeaderReader
from stream.limits import (
    MAX_CHANNELS,
    MAX_OFFSET_MS,
    MAX_RATE,
    MAX_UTTERANCE_MS,
    MAX_UTTERANCES,
    MAX_VALUE_BYTES,
    MIN_RATE,
)
from stream.records import Message, Record
from stream.topics import Topics

__all__ = [
    "CallClosed",
    "CallClosedData",
    "CallTranscribed",
    "CallTranscribedData",
    "Utterance",
    "parse_transcribed",
    "parse_utterances",
]


class Utterance(CallEvent):
    """A stretch of speech of one channel, at most 30 s, as mono FLAC of `rate` (above 16 kHz it may not fit a record).

    `start_ms` and `end_ms` count from the start of the call.
    """

    name = "calls.utterance"

    utterance_id: UUID
    channel: Annotated[int, Field(ge=0, lt=MAX_CHANNELS)]
    role: Role
    start_ms: OffsetMs
    end_ms: OffsetMs
    rate: Rate
    flac: Annotated[bytes, Field(min_length=1, max_length=MAX_VALUE_BYTES, repr=False)]
    cut_version: ShortText
    product: ShortText | None = None

    @property
    def ce_id(self) -> str:
        return str(self.utterance_id)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not 0 < self.end_ms - self.start_ms <= MAX_UTTERANCE_MS:
            raise PydanticCustomError("out_of_range", "an utterance lasts more than 0 and at most 30,000 ms")
        return self

    def to_message(self, topics: Topics, *, at: datetime | None = None, source: str = cloudevents.SOURCE) -> Message:
        fields = {
            "utterance_id": str(self.utterance_id),
            "channel": str(self.channel),
            "role": self.role,
            "start_ms": str(self.start_ms),
            "end_ms": str(self.end_ms),
            "rate": str(self.rate),
            "cut_version": self.cut_version,
        }
        if self.product is not None:
            fields["product"] = self.product
        headers = self._headers(at or self._after(self.start_ms), source, "audio/flac", fields)
        return Message(topic=topics.calls_utterances, key=self.call_id.encode(), value=self.flac, headers=headers)


class CallClosedData(Payload):
    """JSON of calls.call.closed.v1: every utterance the call has, and how much audio never came."""

    utterance_ids: Annotated[tuple[UUID, ...], Field(max_length=MAX_UTTERANCES)]
    gap_ms: OffsetMs
    duration_ms: OffsetMs
    reason: Literal["ended", "timed_out"]
    product: ShortText | None = None


class CallClosed(CallClosedData, CallEvent):
    """The segmenter's last record of a call, in the same partition as its utterances."""

    name = "calls.call.closed"

    def to_message(self, topics: Topics, *, at: datetime | None = None, source: str = cloudevents.SOURCE) -> Message:
        headers = self._headers(at or self._after(self.duration_ms), source, cloudevents.JSON)
        return Message(topic=topics.calls_utterances, key=self.call_id.encode(), value=self.to_json(), headers=headers)


class CallTranscribedData(Payload):
    """JSON of calls.call.transcribed.v1."""

    run_id: UUID
    state: Literal["transcribed", "no_speech"]


class CallTranscribed(CallTranscribedData, CallEvent):
    """All utterances of a call are done in one run."""

    name = "calls.call.transcribed"

    @property
    def ce_id(self) -> str:
        return f"{self.call_id}/transcribed/{self.run_id}"

    def to_message(self, topics: Topics, *, at: datetime | None = None, source: str = cloudevents.SOURCE) -> Message:
        headers = self._headers(at or self.call_started_at, source, cloudevents.JSON)
        return Message(topic=topics.calls_transcribed, key=self.call_id.encode(), value=self.to_json(), headers=headers)


def parse_utterances(record: Record) -> Utterance | CallClosed:
    """The event that a record of calls.utterances.v1 is. Raises errors.Permanent; does not decode the audio."""
    headers = HeaderReader(record.headers)
    name = cloudevents.event_name(headers, known=frozenset({Utterance.name, CallClosed.name}))
    call_id = call_id_of(record)
    started, trace = headers.instant("call_started_at"), headers.traceparent()
    if name == CallClosed.name:
        closed = parse_payload(CallClosedData, record.value)
        return build(CallClosed, call_id=call_id, call_started_at=started, traceparent=trace, **dict(closed))
    if not record.value:
        raise Permanent("empty_chunk", "the utterance holds no audio")
    check_size(record.value)
    return build(
        Utterance,
        call_id=call_id,
        call_started_at=started,
        traceparent=trace,
        utterance_id=headers.uuid("utterance_id"),
        channel=headers.integer("channel", 0, MAX_CHANNELS - 1, reason="unsupported_channels"),
        role=headers.text("role"),
        start_ms=headers.integer("start_ms", 0, MAX_OFFSET_MS),
        end_ms=headers.integer("end_ms", 0, MAX_OFFSET_MS),
        rate=headers.integer("rate", MIN_RATE, MAX_RATE, reason="unsupported_rate"),
        flac=record.value,
        cut_version=headers.text("cut_version"),
        product=headers.text_or_none("product"),
    )


def parse_transcribed(record: Record) -> CallTranscribed:
    """The event that a record of calls.transcribed.v1 is. Raises errors.Permanent."""
    headers = HeaderReader(record.headers)
    cloudevents.event_name(headers, known=frozenset({CallTranscribed.name}))
    call_id, started = call_id_of(record), headers.instant("call_started_at")
    payload = parse_payload(CallTranscribedData, record.value)
    return build(
        CallTranscribed, call_id=call_id, call_started_at=started, traceparent=headers.traceparent(), **dict(payload)
    )
