"""`earful deadletters`: list, show without payload, replay once and only where it can help."""

from __future__ import annotations

import os
import signal
import tracemalloc
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from kafka import KafkaProducer

from commands import context, deadletters
from stream.events import CallPaused, CallResumed, Message
from tests.commands.conftest import Run
from tests.workers.pipeline import Pipeline, Place
from tests.workers.sending import STARTED, chunks, ended, messages, review, sample, started

SECRET = b'{"text": "my card number is 4111"'


def letter_at(run: Run, pipeline: Pipeline, stage: str, place: Place) -> dict[str, Any]:
    """The dead letter of a record, as `list` shows it."""
    verdict = pipeline.wait(lambda: pipeline.verdict(stage, place), f"a verdict for {place}")
    assert verdict[0] == "dead_letter"
    found = run("deadletters", "list", "--stage", stage, "--reason", str(verdict[1]), "--json").json()
    [mine] = [one for one in found if (one["partition"], one["offset"]) == (place.partition, place.offset)]
    return mine  # type: ignore[no-any-return]


def poison(pipeline: Pipeline, review_id: str) -> Message:
    return replace(messages(pipeline.topics, [review(review_id)])[0], value=SECRET)


def mend(pipeline: Pipeline, letter: dict[str, Any], value: bytes | None) -> None:
    """As if what made Earful refuse the record had been mended since."""
    pipeline.rows(
        "UPDATE pii.dead_letter_payloads SET value = %s WHERE dead_letter_id = %s RETURNING 1",
        value,
        letter["dead_letter_id"],
    )


def test_list_and_show_never_print_a_payload(run: Run, pipeline: Pipeline) -> None:
    name = "shown \x1b[2J"
    record = replace(poison(pipeline, "shown"), key=name.encode())
    [place] = pipeline.produce([replace(record, headers=(*record.headers, ("x-note", b"4111")))])
    letter = letter_at(run, pipeline, "reviewer", place)
    assert (letter["reason"], letter["subject_id"], letter["replayed_at"]) == ("invalid_json", name, None)
    shown = run("deadletters", "show", letter["dead_letter_id"], "--json")
    assert shown.json()["value_bytes"] == len(SECRET)
    headers = shown.json()["headers"]
    assert (headers["ce_type"].split(".")[-1], headers["x-note"]) == ("v1", None)
    for done in (shown, run("deadletters", "show", letter["dead_letter_id"]), run("deadletters", "list")):
        assert done.code == 0
        assert "4111" not in done.out
    assert letter["dead_letter_id"] in run("deadletters", "list").out
    assert "subject_id shown  [2J\n" in run("deadletters", "show", letter["dead_letter_id"]).out


def test_a_list_says_that_there_are_more_or_none(run: Run, pipeline: Pipeline) -> None:
    for place in pipeline.produce([poison(pipeline, "listed"), poison(pipeline, "listed")]):
        pipeline.wait(lambda place=place: pipeline.verdict("reviewer", place), "its verdict")  # type: ignore[misc]
    cut = run("deadletters", "list", "--limit", "1")
    assert (cut.code, len(cut.out.splitlines()), "the newest 1 only" in cut.err) == (0, 2, True)
    assert "only" not in run("deadletters", "list", "--limit", "1000").err
    none = run("deadletters", "list", "--reason", "no_such_reason")
    assert (none.code, none.out) == (0, "no dead letters of this stage and reason\n")
    assert run("deadletters", "list", "--reason", "no_such_reason", "--json").json() == []
    wrong = run("deadletters", "list", "--stage", "rewiever")
    assert (wrong.code, "no stage 'rewiever': one of segmenter" in wrong.sentence()) == (2, True)


@pytest.mark.proof(10)
def test_a_record_is_replayed_once(run: Run, pipeline: Pipeline) -> None:
    [place] = pipeline.produce([poison(pipeline, "again")])
    letter = letter_at(run, pipeline, "reviewer", place)
    mend(pipeline, letter, messages(pipeline.topics, [review("again", "The battery is great.")])[0].value)
    done = run("deadletters", "replay", letter["dead_letter_id"])
    assert done.code == 0, done.err
    pipeline.wait(lambda: pipeline.rows("SELECT 1 FROM analytics_v1.reviews WHERE review_id = 'again'"), "the review")
    second = run("deadletters", "replay", letter["dead_letter_id"])
    assert (second.code, "a dead letter is replayed once" in second.sentence()) == (1, True)
    shown = run("deadletters", "show", letter["dead_letter_id"], "--json").json()
    new = Place(topic=place.topic, partition=shown["replayed_partition"], offset=shown["replayed_offset"])
    assert pipeline.verdict("reviewer", new) == ("result", None)
    assert pipeline.ends(place.topic)[new.partition] == new.offset + 1


def test_one_that_cannot_be_replayed_holds_up_no_other(run: Run, pipeline: Pipeline) -> None:
    places = pipeline.produce([poison(pipeline, f"several-{number}") for number in range(2)])
    first, second = (letter_at(run, pipeline, "reviewer", place)["dead_letter_id"] for place in places)
    assert run("deadletters", "replay", first).code == 0
    done = run("deadletters", "replay", first, str(uuid4()), second, second)
    assert done.code == 1
    assert [line.split(":")[0] for line in done.out.splitlines()] == [second]
    assert ["is replayed once" in line or "no dead letter" in line for line in done.err.splitlines()] == [True, True]


def test_a_topic_that_is_gone_holds_up_no_other(run: Run, pipeline: Pipeline) -> None:
    places = pipeline.produce([poison(pipeline, f"gone-{number}") for number in range(2)])
    gone, there = (letter_at(run, pipeline, "reviewer", place)["dead_letter_id"] for place in places)
    with psycopg.connect("postgresql://" + pipeline.url.partition("://")[2]) as connection:
        connection.execute("UPDATE ingest.dead_letters SET topic = 'gone.v1' WHERE dead_letter_id = %s", (gone,))
    done = run("deadletters", "replay", gone, there)
    assert (done.code, "topic gone.v1 does not exist" in done.sentence()) == (1, True)
    assert done.out.startswith(f"{there}:")


def test_records_of_a_call_are_replayed_in_their_order(run: Run, pipeline: Pipeline) -> None:
    """Its end comes last, whatever order their ids are given in."""
    identity = {"call_id": "in-order", "call_started_at": STARTED}
    paused, resumed = CallPaused(**identity, offset_ms=0), CallResumed(**identity, offset_ms=0)
    events = messages(pipeline.topics, [started("in-order"), paused, resumed, ended("in-order", -1)])
    places = pipeline.produce([replace(one, value=b"{") for one in events])
    ids = [letter_at(run, pipeline, "segmenter", place) for place in places]
    for letter, event in zip(ids, events, strict=True):
        mend(pipeline, letter, event.value)
    done = run("deadletters", "replay", *(letter["dead_letter_id"] for letter in reversed(ids)))
    assert done.code == 0, done.err
    again = [run("deadletters", "show", letter["dead_letter_id"], "--json").json() for letter in ids]
    offsets = [letter["replayed_offset"] for letter in again]
    assert offsets == sorted(offsets)
    query = "SELECT close_reason FROM ingest.calls WHERE call_id = 'in-order'"
    pipeline.wait(lambda: pipeline.one(query) == "ended", "the end of the call")


def test_of_many_letters_one_payload_is_in_memory(
    run: Run, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whether Kafka lets us in is asked once."""
    size, count = 800_000, 24
    places = pipeline.produce(replace(poison(pipeline, "large"), value=b"{" * size) for _ in range(count))
    pipeline.wait(lambda: pipeline.verdict("reviewer", places[-1]), "the last one's verdict")
    ids = [one["dead_letter_id"] for one in run("deadletters", "list", "--limit", str(count), "--json").json()]
    asked = []
    whole = context.check_access
    monkeypatch.setattr(context, "check_access", lambda using: asked.append(using) or whole(using))
    tracemalloc.start()
    try:
        done = run("deadletters", "replay", *ids)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (done.code, len(done.out.splitlines())) == (0, count), done.err
    assert most < size * count / 2
    assert len(asked) == 1


@pytest.mark.parametrize(("setting", "code"), [("KAFKA_BOOTSTRAP_SERVERS", 3), ("POSTGRES_URL", 1)])
def test_a_server_that_refuses_ends_it_at_once(run: Run, pipeline: Pipeline, setting: str, code: int) -> None:
    places = pipeline.produce([poison(pipeline, f"refused-{number}") for number in range(2)])
    ids = [letter_at(run, pipeline, "reviewer", place)["dead_letter_id"] for place in places]
    wrong = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "POSTGRES_URL": pipeline.url + "-that-is-not-there"}[setting]
    done = run("deadletters", "replay", *ids, **{f"EARFUL_{setting}": wrong})
    assert (done.code, "error:" in done.sentence()) == (code, True)


def test_a_replayed_review_never_overrides_a_newer_one(run: Run, pipeline: Pipeline) -> None:
    """Without versions the order of the records decides, and a replayed one counts as where it first stood."""
    newer = messages(pipeline.topics, [review("overtaken", "The battery is great.")])[0]
    [place, _] = pipeline.produce([poison(pipeline, "overtaken"), newer])
    letter = letter_at(run, pipeline, "reviewer", place)
    query = "SELECT text FROM analytics_v1.reviews WHERE review_id = 'overtaken'"
    pipeline.wait(lambda: pipeline.rows(query), "the newer review")
    mend(pipeline, letter, messages(pipeline.topics, [review("overtaken", "The battery died.")])[0].value)
    assert run("deadletters", "replay", letter["dead_letter_id"]).code == 0
    shown = run("deadletters", "show", letter["dead_letter_id"], "--json").json()
    new = Place(topic=place.topic, partition=shown["replayed_partition"], offset=shown["replayed_offset"])
    verdict = pipeline.wait(lambda: pipeline.verdict("reviewer", new), "its verdict")
    assert verdict[0] == "superseded"
    assert pipeline.rows(query) == [("The battery is great.",)]


def test_audio_of_a_closed_call_is_not_replayed(run: Run, pipeline: Pipeline) -> None:
    talk = sample("calls/card-fee", 0, 4_000)
    audio = chunks("closed", talk)
    broken = audio[3].model_copy(update={"value": audio[3].value[:-40]})
    events = [started("closed"), *audio[:3], broken, *audio[4:], ended("closed", len(audio) - 1)]
    places = pipeline.produce(messages(pipeline.topics, events))
    letter = letter_at(run, pipeline, "segmenter", places[4])
    closed = "SELECT close_reason FROM ingest.calls WHERE call_id = 'closed'"
    pipeline.wait(lambda: pipeline.one(closed) == "ended", "the end of the call")
    end = pipeline.ends(places[4].topic)
    done = run("deadletters", "replay", letter["dead_letter_id"])
    assert (done.code, "call closed is closed (ended)" in done.sentence()) == (1, True)
    assert pipeline.ends(places[4].topic) == end
    assert run("deadletters", "show", letter["dead_letter_id"], "--json").json()["replayed_at"] is None


def test_a_chunk_whose_place_is_gone_is_not_replayed(run: Run, pipeline: Pipeline) -> None:
    """The call is open, and goes on without it; a record that never took a place may come again."""
    audio = chunks("going-on", sample("calls/card-fee", 0, 4_000))
    broken = audio[3].model_copy(update={"value": audio[3].value[:-40]})
    events = [started("going-on"), *audio[:3], broken, audio[4].model_copy(update={"rate": 16_000})]
    places = pipeline.produce(messages(pipeline.topics, events))
    gone, other = (letter_at(run, pipeline, "segmenter", place)["dead_letter_id"] for place in places[4:])
    done = run("deadletters", "replay", gone)
    assert (done.code, "has given up chunk 3" in done.sentence()) == (1, True)
    assert run("deadletters", "replay", other).code == 0
    rest = [*audio[4:], ended("going-on", len(audio) - 1)]
    pipeline.produce(messages(pipeline.topics, rest))
    pipeline.wait(lambda: pipeline.one("SELECT gap_ms FROM ingest.calls WHERE call_id = 'going-on'") == 500, "the gap")


def test_a_replay_that_kafka_does_not_acknowledge_may_have_arrived(
    run: Run, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka stands still with the record in its hands, and takes it afterwards: two replays, and it counts once."""
    [place] = pipeline.produce([poison(pipeline, "unanswered")])
    letter = letter_at(run, pipeline, "reviewer", place)
    mend(pipeline, letter, messages(pipeline.topics, [review("unanswered", "The battery is great.")])[0].value)
    kafka = pipeline.stack.kafka.pid
    if kafka is None:
        pytest.skip("a borrowed stack's Kafka is not ours to halt")

    class Unlucky(KafkaProducer):  # type: ignore[misc]
        def send(self, topic: str, **fields: Any) -> Any:
            self.partitions_for(topic)
            os.kill(kafka, signal.SIGSTOP)
            return super().send(topic, **fields)

    monkeypatch.setattr(deadletters, "TIMEOUT_SECONDS", 2.0)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(deadletters, "KafkaProducer", Unlucky)
            done = run("deadletters", "replay", letter["dead_letter_id"])
    finally:
        os.kill(kafka, signal.SIGCONT)
    assert (done.code, "may have arrived" in done.sentence(), "not marked" in done.sentence()) == (3, True, True)
    assert run("deadletters", "show", letter["dead_letter_id"], "--json").json()["replayed_at"] is None
    monkeypatch.undo()
    assert run("deadletters", "replay", letter["dead_letter_id"]).code == 0
    query = "SELECT count(*) FROM analytics_v1.reviews WHERE review_id = 'unanswered'"
    pipeline.wait(lambda: pipeline.one(query) == 1, "the review, once")


def test_a_letter_without_payload_cannot_be_replayed(run: Run, pipeline: Pipeline) -> None:
    [place] = pipeline.produce([poison(pipeline, "erased")])
    letter = letter_at(run, pipeline, "reviewer", place)
    pipeline.rows(
        "DELETE FROM pii.dead_letter_payloads WHERE dead_letter_id = %s RETURNING 1", letter["dead_letter_id"]
    )
    done = run("deadletters", "replay", letter["dead_letter_id"])
    assert (done.code, "erased" in done.sentence()) == (1, True)


def test_of_a_record_that_nobody_could_read_there_is_nothing_to_replay(run: Run, pipeline: Pipeline) -> None:
    """As of a Kafka batch that unpacks to too much (tests/workers/test_compression.py)."""
    [place] = pipeline.produce([poison(pipeline, "unread")])
    letter = letter_at(run, pipeline, "reviewer", place)
    pipeline.rows(
        "UPDATE pii.dead_letter_payloads SET key = NULL, value = NULL WHERE dead_letter_id = %s RETURNING 1",
        letter["dead_letter_id"],
    )
    done = run("deadletters", "replay", letter["dead_letter_id"])
    assert (done.code, "no key and no value that anybody could read" in done.sentence()) == (1, True), done.err
