"""From Kafka to Postgres on real parts: what calls and reviews become."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np

from stack.stack import Stack
from stream import padding
from stream.events import CallPaused, CallResumed, ReviewDeleted
from tests.workers.pipeline import PROJECT, STAGES, Pipeline
from tests.workers.sending import STARTED, chunks, ended, messages, partition_for, review, sample, started, whole_call
from tests.workers.watching import TALK, cuts, finished, kinds, send, utterances, verdicts


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
    """A missing seq is waited for until more than 20 later chunks came."""
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


def test_a_call_of_which_nothing_can_be_decoded_is_audio_corrupt(pipeline: Pipeline) -> None:
    broken = [chunk.model_copy(update={"value": chunk.value[:-40]}) for chunk in chunks("corrupt", TALK)[:4]]
    send(pipeline, [started("corrupt"), *broken, ended("corrupt", 3)])
    row = finished(pipeline, "corrupt", "no_speech")
    assert (row["state"], row["gap_ms"], row["duration_ms"]) == ("audio_corrupt", 2_000, 0)
    shown = "SELECT state, complete FROM analytics_v1.calls WHERE call_id = 'corrupt'"
    assert pipeline.rows(shown) == [("audio_corrupt", True)]


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


def test_what_only_fills_a_place_is_no_event_of_any_stage(pipeline: Pipeline) -> None:
    """`earful topics pad` writes it; also a run that is opened later reads it."""
    around = [review("before-pads"), review("after-pads")]
    pads = [padding.pad(topic) for topic in pipeline.topics.consumed for _ in range(2)]
    first, *places, last = pipeline.produce(
        [*messages(pipeline.topics, around[:1]), *pads, *messages(pipeline.topics, around[1:])]
    )
    for stage in STAGES:
        mine = [place for place in places if place.topic == pipeline.topic_of(stage)]
        assert [kind for kind, _ in verdicts(pipeline, stage, mine)] == ["control"] * 2
    assert [kind for kind, _ in verdicts(pipeline, "reviewer", [first, last])] == ["result"] * 2
    assert pipeline.rows("SELECT 1 FROM ingest.review_heads WHERE review_id = 'earful.pad'") == []
