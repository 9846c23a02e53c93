"""The producers against a real broker."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stream.audio import Pcm, decode_chunk
from stream.events import (
    AudioChunk,
    AudioEvent,
    CallEnded,
    CallPaused,
    CallResumed,
    CallStarted,
    Message,
    Review,
    ReviewDeleted,
    parse_review,
)
from stream.files import UnreadableAudio
from stream.headers import instant
from stream.limits import MAX_VALUE_BYTES
from stream.producers import CallProducer, DeliveryError, MessageTooLarge, ReviewProducer
from stream.sender import Sender
from tests.stream.broker import Broker
from tests.workers.sending import partition_for

CALLS = Path(__file__).parents[2] / "samples" / "calls"
STARTED = instant("2026-05-01T23:59:50Z")
GOOD = {"review_id": "r-1", "product": "kettle", "text": "Fast.", "created_at": "2026-05-01T12:00:00Z"}


@pytest.fixture
def calls(broker: Broker) -> Iterator[CallProducer]:
    with CallProducer(broker.bootstrap, prefix=broker.prefix, timeout_seconds=20) as producer:
        yield producer


def chunks(events: list[AudioEvent]) -> list[AudioChunk]:
    return [event for event in events if isinstance(event, AudioChunk)]


def samples(seconds: float, rate: int, channels: int) -> Pcm:
    noise = np.random.default_rng(1).integers(-32_768, 32_768, (int(seconds * rate), channels))
    return noise.astype(np.int16)


def test_a_live_call_of_20_ms_frames(broker: Broker, calls: CallProducer) -> None:
    audio = np.random.default_rng(2).integers(0, 256, 320 * 56, dtype=np.uint8).tobytes()
    with calls.call(
        "live-ä",
        rate=8_000,
        channels=2,
        roles=("customer", "agent"),
        started_at=STARTED,
        product="kettle",
        metadata={"queue": "returns"},
    ) as call:
        for at in range(0, len(audio) // 2, 320):
            call.write(audio[at : at + 320])
        call.pause()
        call.resume(60_000)
        for at in range(len(audio) // 2, len(audio), 320):
            call.write(audio[at : at + 320])
    calls.flush()

    events = broker.call("live-ä")
    kinds = [type(event) for event in events]
    assert kinds == [CallStarted, *[AudioChunk] * 3, CallPaused, CallResumed, *[AudioChunk] * 3, CallEnded]
    start, end, sent = events[0], events[-1], chunks(events)
    assert isinstance(start, CallStarted)
    assert isinstance(end, CallEnded)
    assert (start.product, start.metadata, start.roles) == ("kettle", {"queue": "returns"}, ("customer", "agent"))
    assert (end.last_seq, end.reason) == (5, "completed")
    assert b"".join(chunk.value for chunk in sent) == audio
    assert [chunk.seq for chunk in sent] == [0, 1, 2, 3, 4, 5]
    assert sent[3].offset_ms == 60_000
    assert {event.call_started_at for event in events} == {STARTED}


def test_a_key_goes_where_java_would_put_it(broker: Broker, calls: CallProducer) -> None:
    names = [f"keyed-{number}" for number in range(20)]
    for name in names:
        calls.call(name, rate=8_000).end()
    calls.flush()
    found = {
        record.key: record.partition
        for record in broker.records(broker.topics.calls_audio)
        if record.key is not None and record.key.startswith(b"keyed-")
    }
    assert found == {name.encode(): partition_for(name.encode(), 6) for name in names}


@pytest.mark.parametrize("codec", ["flac", "l16"])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (11_025, 2), (48_000, 2)])
def test_a_recording_arrives_sample_by_sample(
    broker: Broker, calls: CallProducer, codec: str, rate: int, channels: int
) -> None:
    sound, call_id = samples(12.3, rate, channels), f"array-{codec}-{rate}"
    sent = calls.send_recording(sound, call_id=call_id, rate=rate, codec=codec, started_at=STARTED)  # type: ignore[arg-type]
    calls.flush()
    events = broker.call(call_id)
    pieces = chunks(events)
    assert (np.concatenate([decode_chunk(piece) for piece in pieces]) == sound).all()
    assert max(len(piece.value) for piece in pieces) <= MAX_VALUE_BYTES
    assert [piece.duration_ms for piece in pieces] == [5_000, 5_000, 2_300]
    assert [piece.offset_ms for piece in pieces] == [0, 5_000, 10_000]
    assert pieces[0].roles == ("unknown",) * channels
    assert isinstance(events[-1], CallEnded)
    assert events[-1].last_seq == 2
    assert (sent.chunks, sent.duration_ms, sent.channels) == (3, 12_300, channels)


def test_whole_recordings_of_real_files(broker: Broker, calls: CallProducer) -> None:
    files = sorted(CALLS.glob("*.flac"))
    assert len(files) == 6
    progress: list[int] = []
    for file in files:
        calls.send_recording(
            file, call_id=file.stem, roles=("customer", "agent"), started_at=STARTED, on_progress=progress.append
        )
    calls.flush()
    for file in files:
        expected, _ = soundfile.read(file, dtype="int16", always_2d=True)
        pieces = chunks(broker.call(file.stem))
        assert [piece.seq for piece in pieces] == list(range(len(pieces)))
        assert (np.concatenate([decode_chunk(piece) for piece in pieces])[: len(expected)] == expected).all()
    assert len(progress) > len(files)


def test_realtime_sends_each_piece_when_it_was_spoken(broker: Broker, calls: CallProducer) -> None:
    now, sent_at = [100.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    calls.send_recording(
        samples(1, 8_000, 1),
        call_id="realtime",
        rate=8_000,
        started_at=STARTED,
        realtime=True,
        clock=lambda: now[0],
        sleep=sleep,
        on_progress=lambda ms: sent_at.append((ms, round(now[0] - 100, 6))),
    )
    assert sent_at == [(200, 0.2), (400, 0.4), (600, 0.6), (800, 0.8), (1_000, 1.0)]


def test_a_file_that_breaks_off_ends_its_call(broker: Broker, calls: CallProducer, tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros((0, 1), np.int16), 8_000)
    with pytest.raises(UnreadableAudio):
        calls.send_recording(path, call_id="empty", started_at=STARTED)
    calls.flush()
    end = broker.call("empty")[-1]
    assert isinstance(end, CallEnded)
    assert (end.last_seq, end.reason) == (-1, "producer_error")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"call_id": "x" * 201}, "call_id"),
        ({"call_id": "c", "channels": 3}, "channels"),
        ({"call_id": "c", "rate": 12_000}, "one of 8000, 11025, 16000"),
        ({"call_id": "c", "channels": 2, "roles": ("agent",)}, "role"),
        ({"call_id": "c", "metadata": {"a": "x" * 1_001}}, "metadata"),
    ],
)
def test_what_earful_would_refuse_is_not_sent(calls: CallProducer, fields: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        calls.call(**{"rate": 8_000, **fields})  # type: ignore[arg-type]


def test_the_size_limit_and_its_neighbours(broker: Broker) -> None:
    """With the longest key and 40 kB of headers, as a dead letter has them, the largest value still passes."""
    headers = tuple((f"header-{number:03}", b"h" * 100) for number in range(360))
    topic = broker.topics.dlt(broker.topics.calls_audio)
    with Sender(broker.bootstrap, timeout_seconds=20) as sender:
        for size in (MAX_VALUE_BYTES - 1, MAX_VALUE_BYTES):
            sender.send(Message(topic=topic, key=b"k" * 200, value=b"v" * size, headers=headers))
        with pytest.raises(MessageTooLarge, match="1000001"):
            sender.send(Message(topic=topic, key=b"k" * 200, value=b"v" * (MAX_VALUE_BYTES + 1), headers=headers))
    assert [len(record.value or b"") for record in broker.records(topic)] == [MAX_VALUE_BYTES - 1, MAX_VALUE_BYTES]


def test_reviews_are_sent_edited_and_deleted(broker: Broker) -> None:
    with ReviewProducer(broker.bootstrap, prefix=broker.prefix, timeout_seconds=20) as producer:
        producer.send({**GOOD, "rating": 4, "unknown": "ignored"})
        producer.send(Review(**{**GOOD, "text": "Fast, but loud.", "version": 2}))
        producer.delete("r-1", version=3)
        with pytest.raises(ValueError, match="created_at"):
            producer.send({**GOOD, "created_at": "yesterday"})
    records = broker.records(broker.topics.reviews_submitted)
    first, second, third = (parse_review(record) for record in records)
    assert isinstance(first, Review)
    assert isinstance(second, Review)
    assert (first.rating, second.text, second.version) == (4.0, "Fast, but loud.", 2)
    assert third == ReviewDeleted(review_id="r-1", version=3)
    assert all(b"ce_time" in dict((name.encode(), value) for name, value in record.headers) for record in records)


def test_a_missing_topic_is_said(broker: Broker) -> None:
    with pytest.raises(DeliveryError, match="earful topics create"):
        with ReviewProducer(broker.bootstrap, prefix="nobody.made.this.", timeout_seconds=1) as producer:
            producer.send(GOOD)


def test_no_broker_is_said() -> None:
    with pytest.raises(DeliveryError, match="no Kafka answers"):
        ReviewProducer("127.0.0.1:1", timeout_seconds=1)


def test_tls_is_spoken_where_it_is_asked_for() -> None:
    def listen() -> set[bytes]:
        heard = set()
        with suppress(TimeoutError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(5)
                    heard.add(connection.recv(2))
        return heard

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(3)
        listening = pool.submit(listen)
        with pytest.raises(DeliveryError, match="TLS or SASL"):
            ReviewProducer(
                f"127.0.0.1:{server.getsockname()[1]}",
                timeout_seconds=1,
                security_protocol="SASL_SSL",
                sasl_mechanism="SCRAM-SHA-512",
                sasl_plain_username="earful",
                sasl_plain_password="CHANGEME",
            )
        assert listening.result(timeout=20) == {b"\x16\x03"}  # TLS: a handshake record


def test_settings_that_break_delivery_or_cannot_work_are_refused(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ssl_cafile"):
        ReviewProducer(broker.bootstrap, security_protocol="SSL", ssl_cafile=str(tmp_path / "ca"))
    with pytest.raises(ValueError, match="acks"):
        ReviewProducer(broker.bootstrap, acks=0)
    with pytest.raises(ValueError, match="no_such_setting"):
        ReviewProducer(broker.bootstrap, no_such_setting=1)
    with pytest.raises(ValueError, match="2000000"):
        ReviewProducer(broker.bootstrap, max_in_flight_bytes=1_000_000)
