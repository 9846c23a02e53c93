"""From Kafka to Postgres on real parts: what good and bad input becomes, and that no record costs another one anything."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pytest

from speech.segment import ChannelInput, ChannelState, Segmenter
from stack.stack import Stack
from stream.events import AudioChunk, CallPaused, CallResumed, CallStarted, Message, Record, ReviewDeleted
from stream.partitioner import partition_for
from tests.stream import bad
from tests.workers.pipeline import PROJECT, Pipeline, Place
from tests.workers.sending import STARTED, Pcm, chunks, ended, messages, review, sample, started, whole_call

TALK = sample("calls/card-fee", 0, 16_000)  # four utterances, two of each speaker


@cache
def _segmenter() -> Segmenter:
    return Segmenter()


def cuts(pcm: Pcm) -> list[tuple[int, int, int]]:
    """Channel, start and end in ms of what the segmenter cuts from a recording heard at once, in the order of time."""
    found: list[tuple[int, int, int]] = []
    for channel in range(pcm.shape[1]):
        state = ChannelState(rate=8_000)
        samples = np.ascontiguousarray(pcm[:, channel])
        mine = _segmenter().advance([ChannelInput(state=state, samples=samples)])[0] + _segmenter().flush(state)
        found += [(channel, cut.start_sample // 8, cut.end_sample // 8) for cut in mine]
    return sorted(found, key=lambda cut: (cut[1], cut[0]))


def utterances(p: Pipeline, call_id: str) -> list[tuple[int, int, int]]:
    return p.rows(
        "SELECT channel, start_ms, end_ms FROM ingest.utterances WHERE call_id = %s ORDER BY start_ms, channel", call_id
    )  # type: ignore[return-value]


def send(p: Pipeline, events: list[Any], partition: int | None = None) -> list[Place]:
    return p.produce(messages(p.topics, events), partition=partition)


def finished(p: Pipeline, call_id: str, state: str = "analysed") -> dict[str, Any]:
    """The call's row, once its run has reached this state."""

    def run_state() -> bool:
        return p.one("SELECT state FROM ingest.call_runs WHERE call_id = %s", call_id) == state

    p.wait(run_state, f"{call_id} is {state}")
    names = ("state", "close_reason", "gap_ms", "duration_ms", "late_chunks", "product", "last_seq")
    return dict(
        zip(names, p.rows(f"SELECT {', '.join(names)} FROM ingest.calls WHERE call_id = %s", call_id)[0], strict=True)
    )


def verdicts(p: Pipeline, stage: str, places: list[Place]) -> list[tuple[str, str | None]]:
    """One verdict an offset, in order."""
    found = [p.wait(lambda place=place: p.verdict(stage, place), f"a verdict for {place}") for place in places]  # type: ignore[misc]
    return [one for one in found if one is not None]


def kinds(p: Pipeline, places: list[Place]) -> list[str]:
    return [kind for kind, _ in verdicts(p, "segmenter", places)]


def test_a_call_from_audio_to_insight(pipeline: Pipeline) -> None:
    places = send(pipeline, whole_call("whole", TALK))
    row = finished(pipeline, "whole")
    assert row == {
        "state": "ended",
        "close_reason": "ended",
        "gap_ms": 0,
        "duration_ms": 16_000,
        "late_chunks": 0,
        "product": "kettle",
        "last_seq": 31,
    }
    assert utterances(pipeline, "whole") == cuts(TALK)
    assert len(cuts(TALK)) == 4
    assert kinds(pipeline, places) == ["control", *["consumed"] * 32, "control"]
    texts = pipeline.rows("SELECT role, text FROM analytics_v1.utterances WHERE call_id = 'whole' ORDER BY start_ms")
    assert [role for role, _ in texts] == ["agent", "customer", "agent", "customer"]
    assert all(text for _, text in texts)
    [(method, summary)] = pipeline.rows("SELECT method, summary FROM analytics_v1.summaries WHERE call_id = 'whole'")
    assert method.startswith("extractive")
    assert summary
    pipeline.wait_until_settled()
    told = [one for one in pipeline.records(pipeline.topics.insights) if one.key == b"whole"]
    assert len(told) == 1
    body = json.loads(told[0].value or b"{}")["body"]
    assert body["summary"] == summary
    mentioned = pipeline.rows("SELECT aspect_text FROM analytics_v1.aspect_mentions WHERE call_id = 'whole'")
    assert sorted(one["aspect"] for one in body["aspects"]) == sorted(text for (text,) in mentioned)


def test_a_review_from_json_to_mentions(pipeline: Pipeline) -> None:
    [place] = send(pipeline, [review("good", rating=4)])
    assert verdicts(pipeline, "reviewer", [place]) == [("result", None)]
    found = pipeline.rows(
        "SELECT aspect_id, aspect_text, span_start, polarity, p_negative + p_neutral + p_positive"
        " FROM analytics_v1.aspect_mentions WHERE review_id = 'good' ORDER BY span_start"
    )
    assert [row[:4] for row in found] == [
        ("battery", "battery", 4, "positive"),
        ("delivery", "delivery", 26, "neutral"),
    ]  # great and late are as near
    assert [round(row[4], 3) for row in found] == [1.0, 1.0]


def test_the_sample_calls_give_each_utterance_once(pipeline: Pipeline) -> None:
    manifest = json.loads((PROJECT / "samples" / "manifest.json").read_text())
    expected: dict[str, list[tuple[int, int, int]]] = {}
    for call in manifest["calls"]:
        pcm = sample(call["file"].removesuffix(".flac"))
        begun = datetime.fromisoformat(call["call_started_at"])
        audio = chunks(call["call_id"], pcm, chunk_ms=call["chunk_ms"], started_at=begun)
        first: list[Any] = [started(call["call_id"], pcm.shape[1], started_at=begun, product=call["product"])]
        kept = [chunk for chunk in audio if chunk.seq not in call["drop_seq"]]
        send(pipeline, [*first, *kept, ended(call["call_id"], len(audio) - 1, started_at=begun)])
        expected[call["call_id"]] = cuts(pcm)
    for call in manifest["calls"]:
        row = finished(pipeline, call["call_id"], call["expect"]["state"])
        assert row["gap_ms"] == call["expect"]["gap_ms"], call["call_id"]
        if call["call_id"] not in ("odd-gap", "odd-fake-stereo"):
            assert utterances(pipeline, call["call_id"]) == expected[call["call_id"]], call["call_id"]
    twins = utterances(pipeline, "odd-fake-stereo")
    assert [(channel, start) for channel, start, _ in twins] == [
        (0, start) for channel, start, _ in expected["odd-fake-stereo"] if channel == 0
    ]
    roles = pipeline.rows(
        "SELECT DISTINCT call_id, role FROM ingest.utterances WHERE call_id IN ('odd-mono', 'odd-fake-stereo')"
    )
    assert sorted(roles) == [("odd-fake-stereo", "unknown"), ("odd-mono", "unknown")]
    named = pipeline.one(
        "SELECT count(*) FROM ingest.call_runs r WHERE state = 'analysed' AND utterances <>"
        " (SELECT count(*) FROM ingest.utterances u WHERE u.call_id = r.call_id AND u.run_id = r.run_id)"
    )
    assert named == 0


def test_a_repeated_chunk_is_a_duplicate(pipeline: Pipeline) -> None:
    events = whole_call("twice", TALK)
    places = send(pipeline, [event for event in events for _ in range(2)])
    finished(pipeline, "twice")
    assert utterances(pipeline, "twice") == cuts(TALK)
    assert kinds(pipeline, places) == ["control"] * 2 + ["consumed", "duplicate"] * 32 + ["control"] * 2


def test_chunks_out_of_order_are_put_in_order(pipeline: Pipeline) -> None:
    audio = chunks("shuffled", TALK)
    order = np.random.default_rng(5).permutation(10).tolist() + list(range(10, 32))
    send(pipeline, [*(audio[index] for index in order), ended("shuffled", 31)])
    assert finished(pipeline, "shuffled")["gap_ms"] == 0
    assert utterances(pipeline, "shuffled") == cuts(TALK)


def test_a_missing_chunk_is_a_gap(pipeline: Pipeline) -> None:
    audio = chunks("holed", TALK)
    send(pipeline, [*audio[:20], *audio[22:], ended("holed", 32)])  # 20 and 21 in the middle, 32 at the end
    row = finished(pipeline, "holed")
    assert row["gap_ms"] == 1_500
    assert len(utterances(pipeline, "holed")) >= 4


def test_a_chunk_after_the_end_is_late(pipeline: Pipeline) -> None:
    audio = chunks("late", TALK)
    places = send(pipeline, [*audio[:30], ended("late", 29), audio[31], audio[3]])
    assert kinds(pipeline, places)[-3:] == ["control", "late", "duplicate"]
    row = finished(pipeline, "late")
    assert (row["late_chunks"], row["duration_ms"]) == (1, 15_000)


def test_a_chunk_that_was_given_up_is_late(pipeline: Pipeline) -> None:
    """A missing seq is waited for until 20 later chunks came."""
    audio = chunks("given-up", TALK)
    places = send(pipeline, [audio[0], *audio[2:24], audio[1], *audio[24:], ended("given-up", 31)])
    assert kinds(pipeline, places)[23] == "late"
    row = finished(pipeline, "given-up")
    assert (row["gap_ms"], row["late_chunks"]) == (500, 1)


def test_a_call_id_cannot_be_used_again(pipeline: Pipeline) -> None:
    send(pipeline, whole_call("reused", TALK))
    finished(pipeline, "reused")
    another_day = datetime(2026, 5, 5, 10, 0, tzinfo=UTC)
    mono = chunks("reused", TALK[:, :1])[0]
    places = send(pipeline, [*whole_call("reused", TALK, started_at=another_day), mono])
    assert set(verdicts(pipeline, "segmenter", places)) == {("dead_letter", "call_id_reused")}
    assert utterances(pipeline, "reused") == cuts(TALK)


def test_a_chunk_in_another_partition_is_refused(pipeline: Pipeline) -> None:
    audio = chunks("misplaced", TALK)
    send(pipeline, audio[:30])
    pipeline.wait(
        lambda: pipeline.one("SELECT last_seq FROM ingest.calls WHERE call_id = 'misplaced'") == 29, "30 chunks"
    )
    elsewhere = (partition_for(b"misplaced", pipeline.partitions) + 1) % pipeline.partitions
    places = send(pipeline, audio[30:31], elsewhere)
    assert verdicts(pipeline, "segmenter", places) == [("dead_letter", "wrong_partition")]
    send(pipeline, [*audio[30:], ended("misplaced", 31)])
    assert finished(pipeline, "misplaced")["gap_ms"] == 0
    assert utterances(pipeline, "misplaced") == cuts(TALK)


def test_a_call_in_two_partitions_at_once_belongs_to_one(stack: Stack) -> None:
    """Both batches are worked on side by side, and neither sees the other's call before its commit."""
    with Pipeline(stack, partitions=2) as p:
        audio = chunks("both", TALK)
        places = [send(p, audio, partition) for partition in (0, 1)]
        p.worker("segmenter")
        found = [set(verdicts(p, "segmenter", mine)) for mine in places]
        assert sorted(found, key=str) == [{("consumed", None)}, {("dead_letter", "wrong_partition")}]


def test_a_call_that_never_ends_times_out(pipeline: Pipeline) -> None:
    """Closed by a record of its own partition, sent by the segmenter that owns it."""
    send(pipeline, whole_call("endless", TALK)[:-1])
    row = finished(pipeline, "endless")
    assert (row["state"], row["close_reason"], row["gap_ms"]) == ("timed_out", "timed_out", 0)
    assert utterances(pipeline, "endless") == cuts(TALK)
    events = [record for record in pipeline.records(pipeline.topics.calls_audio) if record.key == b"endless"]
    assert dict(events[-1].headers)["ce_type"] == b"calls.call.timed_out.v1"


def test_a_pause_is_no_gap(pipeline: Pipeline) -> None:
    audio = chunks("paused", TALK)
    moved = [chunk.model_copy(update={"offset_ms": chunk.offset_ms + 60_000}) for chunk in audio[18:]]
    identity = {"call_id": "paused", "call_started_at": STARTED}
    pause: list[Any] = [CallPaused(**identity, offset_ms=9_000), CallResumed(**identity, offset_ms=69_000)]
    send(pipeline, [*audio[:18], *pause, *moved, ended("paused", 31)])
    row = finished(pipeline, "paused")
    assert (row["gap_ms"], row["duration_ms"]) == (0, 76_000)


def test_a_call_without_speech(pipeline: Pipeline) -> None:
    send(pipeline, whole_call("silent", np.zeros((16_000, 2), np.int16)))
    assert finished(pipeline, "silent", "no_speech")["state"] == "ended"
    send(pipeline, [started("nothing"), ended("nothing", -1)])
    finished(pipeline, "nothing", "no_speech")
    assert utterances(pipeline, "silent") + utterances(pipeline, "nothing") == []


def test_mono_and_fake_stereo(pipeline: Pipeline) -> None:
    mono = TALK[:, :1]
    both = np.concatenate([mono, mono], axis=1)
    send(pipeline, [*whole_call("mono", mono), *whole_call("twins", both)])
    finished(pipeline, "mono")
    finished(pipeline, "twins")
    assert utterances(pipeline, "mono") == utterances(pipeline, "twins") == cuts(mono)
    assert pipeline.rows("SELECT DISTINCT role FROM ingest.utterances WHERE call_id IN ('mono', 'twins')") == [
        ("unknown",)
    ]


def test_a_call_over_midnight_and_the_end_of_a_month_stays_one(pipeline: Pipeline) -> None:
    begun = datetime(2026, 5, 31, 23, 59, 52, tzinfo=UTC)
    send(pipeline, whole_call("midnight", TALK, started_at=begun))
    finished(pipeline, "midnight")
    assert utterances(pipeline, "midnight") == cuts(TALK)
    months = pipeline.rows("SELECT DISTINCT call_started_at FROM ingest.utterances WHERE call_id = 'midnight'")
    assert months == [(begun,)]


def test_edits_deletions_and_tombstones_of_reviews(pipeline: Pipeline) -> None:
    bad_text, good_text = "The battery died.", "The battery is great."
    first, second, stale = (
        review("edited", bad_text, version=1),
        review("edited", good_text, version=3),
        review("edited", bad_text, version=2),
    )
    gone = [review("gone", good_text), ReviewDeleted(review_id="gone")]
    back = [review("back", bad_text), ReviewDeleted(review_id="back"), review("back", good_text)]
    tombstone = [ReviewDeleted(review_id="never-was", version=5), review("never-was", good_text, version=4)]
    places = send(pipeline, [first, second, stale, *gone, *back, *tombstone])
    found = verdicts(pipeline, "reviewer", places)
    assert [kind for kind, _ in found][1:3] == ["result", "superseded"]
    assert [found[4][0], found[7][0], found[8][0], found[9][0]] == ["result", "result", "result", "superseded"]
    shown = dict(pipeline.rows("SELECT review_id, text FROM analytics_v1.reviews"))
    assert (shown["edited"], shown["back"]) == (good_text, good_text)
    assert not {"gone", "never-was"} & set(shown)
    hidden = pipeline.one(
        "SELECT (SELECT count(*) FROM pii.review_texts WHERE review_id IN ('gone', 'never-was'))"
        " + (SELECT count(*) FROM ingest.aspect_mentions WHERE review_id IN ('gone', 'never-was'))"
    )
    assert hidden == 0


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
