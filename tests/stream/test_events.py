"""Every event survives the way through Kafka, whatever it holds."""

from __future__ import annotations

import pickle
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import errors
from stream import calls, cloudevents, events, insights, reviews, utterances
from stream.events import (
    AudioChunk,
    Topics,
    make_traceparent,
    parse_audio,
    parse_insight,
    parse_review,
    parse_transcribed,
    parse_utterances,
    trace_id,
)
from stream.headers import instant
from stream.reasons import REASONS
from stream.records import Record
from tests.stream.strategies import EVENTS, as_record

TOPICS = Topics("acme.")
PARSERS = {
    TOPICS.calls_audio: parse_audio,
    TOPICS.calls_utterances: parse_utterances,
    TOPICS.calls_transcribed: parse_transcribed,
    TOPICS.reviews_submitted: parse_review,
    TOPICS.insights: parse_insight,
}


@pytest.mark.parametrize("name", sorted(EVENTS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_event_survives_kafka(name: str, data: st.DataObject) -> None:
    event = data.draw(EVENTS[name])
    message = event.to_message(TOPICS)
    parsed = PARSERS[message.topic](as_record(message))
    assert parsed == event
    assert type(parsed) is type(event)


@pytest.mark.parametrize("name", sorted(EVENTS))
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_every_message_carries_cloudevents_headers(name: str, data: st.DataObject) -> None:
    message = data.draw(EVENTS[name]).to_message(TOPICS, at=instant("2026-05-01T12:00:00Z"))
    headers = dict(message.headers)
    assert len(headers) == len(message.headers)
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_subject"] == message.key
    assert headers["ce_time"] == b"2026-05-01T12:00:00Z"
    assert headers["ce_type"].endswith(b".v1")
    assert all(headers[name] for name in ("ce_id", "ce_source", "content-type"))


@pytest.mark.parametrize("name", sorted(set(EVENTS) - {"AudioChunk", "Utterance", "ReviewDeleted"}))
@settings(max_examples=10, deadline=None)
@given(data=st.data(), junk=st.text(max_size=20))
def test_unknown_fields_and_headers_are_ignored(name: str, data: st.DataObject, junk: str) -> None:
    event = data.draw(EVENTS[name])
    message = event.to_message(TOPICS)
    assert message.value is not None
    value = message.value[:-1] + (b"," if len(message.value) > 2 else b"") + b'"from_the_future":{"a":[1]}}'
    record = as_record(message)
    record = Record(
        topic=record.topic,
        partition=0,
        offset=0,
        timestamp_ms=0,
        key=record.key,
        value=value,
        headers=(*record.headers, ("x-unknown", junk.encode())),
    )
    assert PARSERS[message.topic](record) == event


def _types() -> list[type[Any]]:
    modules = (calls, utterances, reviews, insights)
    found = {getattr(module, name) for module in modules for name in module.__all__}
    return [kind for kind in found if isinstance(kind, type) and hasattr(kind, "to_message") and hasattr(kind, "name")]


def test_the_strategies_cover_every_event() -> None:
    assert {kind.__name__ for kind in _types()} == set(EVENTS)


_HEADERS = [
    *["ce_type", "ce_specversion", "codec", "rate", "channels", "channel_roles", "seq", "offset_ms", "duration_ms"],
    *["call_started_at", "traceparent", "version", "utterance_id", "role", "start_ms", "end_ms", "cut_version"],
]


@settings(max_examples=300, deadline=None)
@given(
    key=st.none() | st.binary(max_size=300),
    value=st.none() | st.binary(max_size=100) | st.text(max_size=50).map(lambda text: text.encode()),
    headers=st.lists(
        st.tuples(
            st.sampled_from(_HEADERS),
            st.binary(max_size=20)
            | st.sampled_from(sorted(cloudevents.event_type(kind.name).encode() for kind in _types()))
            | st.sampled_from([b"1", b"8000", b"pcmu", b"2026-05-01T12:00:00Z", b"customer", b"-1", b"9" * 19]),
        ),
        max_size=20,
    ),
    parser=st.sampled_from(sorted(PARSERS)),
)
def test_garbage_is_refused_with_a_reason_and_nothing_else(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], parser: str
) -> None:
    record = Record(topic=parser, partition=0, offset=0, timestamp_ms=0, key=key, value=value, headers=tuple(headers))
    refused = None
    try:
        PARSERS[parser](record)
    except errors.Permanent as err:
        refused = err
    assert refused is None or refused.reason in REASONS


def test_a_refusal_survives_the_decoders_child_process() -> None:
    refused = pickle.loads(pickle.dumps(errors.Permanent("too_long", "the field text")))  # noqa: S301
    assert (refused.reason, refused.detail) == ("too_long", "the field text")


def test_audio_and_texts_never_show_in_a_repr() -> None:
    chunk = AudioChunk(
        call_id="c",
        call_started_at=instant("2026-05-01T12:00:00Z"),
        codec="pcmu",
        rate=8000,
        channels=1,
        roles=("agent",),
        seq=0,
        offset_ms=0,
        duration_ms=20,
        value=b"secret" * 27,
    )
    review = events.Review(
        review_id="r",
        product="p",
        text="secret",
        author="secret",
        created_at=instant("2026-05-01T12:00:00Z"),
    )
    message = review.to_message(TOPICS)
    assert "secret" not in repr((chunk, review, message, as_record(message)))


def test_the_trace_is_the_producers_or_comes_from_the_records_place() -> None:
    def record(offset: int, *headers: tuple[str, bytes]) -> Record:
        return Record(topic="t", partition=1, offset=offset, timestamp_ms=0, key=b"k", value=None, headers=headers)

    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace_id(record(1, ("traceparent", make_traceparent(trace).encode()))) == trace
    broken = trace_id(record(1, ("traceparent", b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01")))
    assert broken == trace_id(record(1)) != trace_id(record(2))
    assert len(broken) == 32
    assert int(broken, 16) > 0
    assert trace_id(record(1, ("traceparent", make_traceparent(broken).encode()))) == broken


def test_times_are_kept_in_utc() -> None:
    event = events.CallEnded(call_id="c", call_started_at=datetime.fromisoformat("2100-01-01T00:30+01:00"), last_seq=0)
    assert event.call_started_at.isoformat() == "2099-12-31T23:30:00+00:00"
    with pytest.raises(ValueError, match="2000 to 2099"):
        events.CallEnded(call_id="c", call_started_at=datetime.fromisoformat("2000-01-01T00:30+01:00"), last_seq=0)


def test_the_public_names() -> None:
    assert all(hasattr(events, name) for name in events.__all__)
    assert {"Record", "Message", "Topics", "utterance_id", *EVENTS} <= set(events.__all__)
