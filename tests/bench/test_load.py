"""The load of the benchmarks: what is sent, in which order, with which time stamps. Only the broker is left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime

import pytest

from bench.load import CHUNK_MS, Calls, recordings, review_texts
from stream.calls import AudioChunk, AudioEvent, CallEnded, CallStarted
from stream.producers import CallProducer


class Recorder(CallProducer):
    """A CallProducer whose events stay here."""

    def __init__(self) -> None:
        self.events: list[AudioEvent] = []

    def _send(self, event: AudioEvent) -> None:
        self.events.append(event)

    def flush(self) -> None:
        pass


@pytest.fixture(scope="module")
def sent() -> tuple[Recorder, Calls]:
    producer = Recorder()
    calls = Calls(producer, "t", lines=3)
    calls.at_once(7)
    return producer, calls


def test_each_call_begins_and_ends_once_and_misses_no_chunk(sent: tuple[Recorder, Calls]) -> None:
    by_call: dict[str, list[AudioEvent]] = defaultdict(list)
    for event in sent[0].events:
        by_call[event.call_id].append(event)
    assert len(by_call) == 7
    for events in by_call.values():
        first, *chunks, last = events
        assert isinstance(first, CallStarted)
        assert isinstance(last, CallEnded)
        assert [chunk.seq for chunk in chunks if isinstance(chunk, AudioChunk)] == list(range(last.last_seq + 1))


def test_calls_are_side_by_side(sent: tuple[Recorder, Calls]) -> None:
    """Records of three calls alternate: a batch of the segmenter holds little of each, as it does live."""
    start = Counter(event.call_id for event in sent[0].events[:60])
    assert len(start) == 3
    assert max(start.values()) - min(start.values()) <= 2


def test_the_audio_that_was_sent_is_counted(sent: tuple[Recorder, Calls]) -> None:
    seconds = sum(one.duration_ms * one.channels for one in sent[0].events if isinstance(one, AudioChunk)) / 1000
    assert sent[1].begun_channel_seconds == pytest.approx(seconds, abs=7 * 2 * CHUNK_MS / 1000)


def test_in_real_time_a_call_starts_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("bench.load.time.monotonic", lambda: now[0])
    monkeypatch.setattr("bench.load.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    begun = datetime.now(UTC)
    producer = Recorder()
    calls = Calls(producer, "t", lines=4)
    calls.in_real_time(5.0, spread=2.0)
    assert now[0] == pytest.approx(5.0, abs=0.3)
    assert calls.worst_lag_seconds <= 0
    starts = [(one.call_started_at - begun).total_seconds() for one in producer.events if isinstance(one, CallStarted)]
    assert len(starts) == 4
    assert all(0 <= start <= 3 for start in starts)
    assert len([one for one in producer.events if isinstance(one, CallEnded)]) == 4
    spoken = sum(one.duration_ms * one.channels for one in producer.events if isinstance(one, AudioChunk)) / 1000
    assert calls.spoken_channel_seconds == pytest.approx(spoken)


def test_calls_that_begin_anywhere_end_all_the_time(sent: tuple[Recorder, Calls]) -> None:
    producer = Recorder()
    calls = Calls(producer, "t", lines=3, anywhere=True)
    calls.at_once(7)
    lengths = Counter(one.call_id for one in producer.events if isinstance(one, AudioChunk))
    whole = Counter(one.call_id for one in sent[0].events if isinstance(one, AudioChunk))
    shorter = [lengths[name] < whole[name] for name in sorted(whole)]
    assert shorter == [True] * 3 + [False] * 4  # the first of each line
    assert calls.begun_channel_seconds < sent[1].begun_channel_seconds


def test_the_samples_are_there() -> None:
    assert len(recordings()) == 6
    assert len(review_texts()) >= 200
