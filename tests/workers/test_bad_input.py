"""What bad input becomes, from Kafka to Postgres, and that no record costs another one anything."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from stream.events import AudioChunk, CallStarted, Message, Record
from tests.stream import bad
from tests.workers.pipeline import Pipeline
from tests.workers.sending import STARTED, chunks, ended, messages, review, started, whole_call
from tests.workers.watching import TALK, cuts, finished, send, utterances, verdicts


def _poisoned_audio(p: Pipeline) -> dict[str, tuple[str, Message]]:
    def message(record: Record) -> Message:
        return Message(topic=p.topics.calls_audio, key=record.key, value=record.value, headers=record.headers)  # type: ignore[arg-type]

    out = {name: (reason, message(record)) for name, (reason, record) in bad.AUDIO.items()}
    for number, (name, (reason, make)) in enumerate(bad.SOUND.items()):
        # A call of its own each, or the second would be a duplicate of the first.
        alone = make().model_copy(update={"call_id": f"sound-{number}"})
        out[name] = (reason, alone.to_message(p.topics))
    return out


def test_each_kind_of_poison_is_buried_and_costs_no_other_record(pipeline: Pipeline) -> None:
    p = pipeline
    audio = _poisoned_audio(p)
    reviews = {
        name: (reason, replace(record, topic=p.topics.reviews_submitted))
        for name, (reason, record) in bad.REVIEWS.items()
    }
    # The broker takes no more than 1,048,588 bytes, so the longest text that can arrive is shorter than 1 MiB.
    reviews["text of 1 MB"] = (
        "too_large",
        replace(reviews["text of 1 MB"][1], value=b'{"text":"' + b"x" * 1_020_000 + b'"}'),
    )
    good_call = messages(p.topics, whole_call("amid-poison", TALK))
    good_reviews = messages(p.topics, [review(f"amid-poison-{number}") for number in range(len(reviews))])
    sent: list[tuple[str, str, Message]] = []
    for position, (name, (reason, message)) in enumerate(audio.items()):
        if position < len(good_call):
            sent.append(("", "", good_call[position]))
        sent.append((name, reason, message))
    for good, (name, (reason, record)) in zip(good_reviews, reviews.items(), strict=True):
        as_message = Message(topic=record.topic, key=record.key, value=record.value, headers=record.headers)  # type: ignore[arg-type]
        sent += [("", "", good), (name, reason, as_message)]
    places = p.produce([message for _, _, message in sent])

    finished(p, "amid-poison")
    p.wait_until_settled(60)
    assert utterances(p, "amid-poison") == cuts(TALK)
    for (name, reason, message), place in zip(sent, places, strict=True):
        stage = "segmenter" if place.topic == p.topics.calls_audio else "reviewer"
        found = p.verdict(stage, place)
        if name:
            assert found == ("dead_letter", reason), name
        else:
            assert found is not None
            assert found[0] in ("control", "consumed", "result"), message.key
    wanted = {
        (place.topic, place.partition, place.offset): one for one, place in zip(sent, places, strict=True) if one[0]
    }
    _check_table(p, wanted)
    _check_topics(p, wanted)


def _check_table(p: Pipeline, wanted: dict[tuple[str, int, int], tuple[str, str, Message]]) -> None:
    """Each poison once in the table, exactly as it came, with its reason and nothing of its payload in the detail."""
    stored = p.rows(
        'SELECT topic, partition, "offset", reason, detail, p.key, p.value FROM ingest.dead_letters'
        " JOIN pii.dead_letter_payloads p USING (dead_letter_id)"
    )
    mine = {row[:3]: row[3:] for row in stored if row[:3] in wanted}
    assert mine.keys() == wanted.keys()
    for place, (reason, detail, key, value) in mine.items():
        name, expected, message = wanted[place]
        assert reason == expected, name
        assert (key, value) == (message.key, message.value), name
        assert len(detail) < 300, name


def _check_topics(p: Pipeline, wanted: dict[tuple[str, int, int], tuple[str, str, Message]]) -> None:
    """Each poison once in the dead-letter topic, with KIP-298's headers; too large a value only as its hash."""
    letters = p.records(p.topics.dlt(p.topics.calls_audio)) + p.records(p.topics.dlt(p.topics.reviews_submitted))
    seen: dict[tuple[str, int, int], Record] = {}
    for letter in letters:
        headers = dict(letter.headers)
        place = (
            headers["__connect.errors.topic"].decode(),
            int(headers["__connect.errors.partition"]),
            int(headers["__connect.errors.offset"]),
        )
        if place in wanted:
            assert place not in seen
            seen[place] = letter
    assert seen.keys() == wanted.keys()
    for place, letter in seen.items():
        name, reason, message = wanted[place]
        headers = dict(letter.headers)
        assert headers["__connect.errors.exception.class.name"].decode() == reason, name
        assert headers["__connect.errors.exception.message"], name
        if "earful-value-sha256" in headers:
            assert int(headers["earful-value-bytes"]) == len(message.value or b"") > 983_040, name
            assert letter.value is None, name
        else:
            assert letter.value == message.value, name


def test_a_buried_chunk_leaves_a_gap_in_its_call(pipeline: Pipeline) -> None:
    audio: list[AudioChunk] = chunks("bitten", TALK)
    broken = audio[10].model_copy(update={"value": audio[10].value[:-40]})
    places = send(pipeline, [*audio[:10], broken, *audio[11:], ended("bitten", 31)])
    assert verdicts(pipeline, "segmenter", places)[10] == ("dead_letter", "corrupt_audio")
    assert finished(pipeline, "bitten")["gap_ms"] == 500


def test_unknown_fields_and_headers_are_ignored(pipeline: Pipeline) -> None:
    [talk, said] = messages(pipeline.topics, [review("newer"), CallStarted(
        call_id="newer", call_started_at=STARTED, channels=1, roles=("unknown",))])  # fmt: skip

    def newer(message: Message) -> Message:
        value = {**json.loads(message.value or b"{}"), "colour": "red"}
        return replace(message, value=json.dumps(value).encode(), headers=(*message.headers, ("x-new", b"\xff")))

    [review_place, call_place] = pipeline.produce([newer(talk), newer(said)])
    assert verdicts(pipeline, "reviewer", [review_place]) == [("result", None)]
    assert verdicts(pipeline, "segmenter", [call_place]) == [("control", None)]


@pytest.mark.parametrize(("year", "kept"), [(2025, False), (2026, True), (2027, False)])
def test_a_date_without_a_partition_is_out_of_range(pipeline: Pipeline, year: int, kept: bool) -> None:
    moment = datetime(year, 6, 1, tzinfo=UTC)
    audio = [started(f"dated-{year}", started_at=moment), ended(f"dated-{year}", -1, started_at=moment)]
    [first, _, said] = send(pipeline, [*audio, review(f"dated-{year}", created_at=moment)])
    assert verdicts(pipeline, "segmenter", [first]) == [("control", None) if kept else ("dead_letter", "out_of_range")]
    assert verdicts(pipeline, "reviewer", [said]) == [("result", None) if kept else ("dead_letter", "out_of_range")]
