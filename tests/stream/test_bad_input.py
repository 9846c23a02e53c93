"""What can never succeed is refused with its reason, says nothing of the payload, and costs little."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from errors import Permanent
from stream.audio import decode_chunk
from stream.events import AudioChunk, Review, ReviewDeleted, Utterance, parse_audio, parse_review, parse_utterances
from stream.examples import EXAMPLES
from stream.reasons import REASONS
from stream.topics import Topics
from tests.stream.bad import AUDIO, REVIEWS, SOUND, STARTED, chunk, flac_of_silence
from tests.stream.strategies import as_record

TOPICS = Topics()


@pytest.mark.parametrize("name", AUDIO)
def test_bad_audio_record(name: str) -> None:
    reason, record = AUDIO[name]
    with pytest.raises(Permanent) as refused:
        parse_audio(record)
    assert refused.value.reason == reason


@pytest.mark.parametrize("name", REVIEWS)
def test_bad_review(name: str) -> None:
    reason, record = REVIEWS[name]
    with pytest.raises(Permanent) as refused:
        parse_review(record)
    assert refused.value.reason == reason


@pytest.mark.parametrize("name", SOUND)
def test_bad_sound(name: str) -> None:
    reason, make = SOUND[name]
    parsed = parse_audio(as_record(make().to_message(TOPICS)))
    assert isinstance(parsed, AudioChunk)
    with pytest.raises(Permanent) as refused:
        decode_chunk(parsed)
    assert refused.value.reason == reason


@pytest.mark.parametrize("rate", [7_999, 12_000, 48_001])
def test_an_utterance_has_one_of_the_rates_of_calls(rate: int) -> None:
    [utterance] = [one for one in EXAMPLES if isinstance(one, Utterance)]
    record = as_record(utterance.to_message(TOPICS))
    headers = tuple((name, str(rate).encode() if name == "rate" else value) for name, value in record.headers)
    with pytest.raises(Permanent) as refused:
        parse_utterances(replace(record, headers=headers))
    assert refused.value.reason == "unsupported_rate"


def test_every_reason_has_a_bad_input() -> None:
    met = {reason for group in (AUDIO, REVIEWS, SOUND) for reason, _ in group.values()}
    assert met == set(REASONS)
    assert all(len(reason) <= 40 for reason in REASONS)


def test_a_refusal_does_not_repeat_what_the_record_says() -> None:
    marks = {"r-2": "another review_id than the key", "I think English": "language that is a sentence"}
    for text, name in marks.items():
        with pytest.raises(Permanent) as refused:
            parse_review(REVIEWS[name][1])
        assert text not in str(refused.value)
        assert refused.value.__cause__ is None


@pytest.mark.parametrize("name", ["10 hours of FLAC silence", "10 hours of FLAC silence whose header says 1 s"])
def test_a_silence_bomb_takes_no_memory(name: str) -> None:
    bomb = SOUND[name][1]()
    assert len(bomb.value) <= 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(Permanent):
            decode_chunk(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_the_bomb_would_decode_if_nobody_looked() -> None:
    """5 s of the same silence are fine: the fixture is refused for its length alone."""
    fine = chunk(codec="flac", channels=1, roles=("agent",), duration_ms=5_000, value=flac_of_silence(5))
    assert decode_chunk(fine).shape == (40_000, 1)


def test_what_is_odd_but_right() -> None:
    record = as_record(chunk(call_id="é" * 100, offset_ms=20_000).to_message(TOPICS))
    assert parse_audio(record) == chunk(call_id="é" * 100, offset_ms=20_000)
    without_roles = tuple(pair for pair in record.headers if pair[0] != "channel_roles")
    parsed = parse_audio(replace(record, headers=without_roles))
    assert isinstance(parsed, AudioChunk)
    assert parsed.roles == ("unknown", "unknown")
    repeated = parse_audio(replace(record, headers=(*record.headers, ("seq", b"7"))))
    assert isinstance(repeated, AudioChunk)
    assert repeated.seq == 7


def test_a_review_needs_no_cloudevents_headers() -> None:
    review = Review(review_id="r", product="p", text="x" * 20_000, created_at=STARTED, version=4)
    bare = replace(as_record(review.to_message(TOPICS)), headers=())
    assert parse_review(bare) == review
    deleted = parse_review(replace(bare, value=None, headers=(("version", b"5"),)))
    assert deleted == ReviewDeleted(review_id="r", version=5)


def test_the_version_header_completes_the_json() -> None:
    review = Review(review_id="r", product="p", text="x", created_at=STARTED)
    record = replace(as_record(review.to_message(TOPICS)), headers=(("version", b"5"),))
    assert parse_review(record) == review.model_copy(update={"version": 5})
