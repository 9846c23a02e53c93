"""`earful explain`: what became of a call or a review, and what it waits for."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import Any

import pytest
from kafka import KafkaAdminClient
from pydantic import SecretStr

from commands import lag
from commands.explain import show
from errors import Transient
from settings import Settings
from stream.events import CallPaused, Message, ReviewDeleted
from tests.commands.conftest import Run
from tests.workers.pipeline import Pipeline
from tests.workers.sending import STARTED, messages, review, sample, whole_call

TALK = sample("calls/card-fee", 0, 8_000)


def test_what_producers_named_cannot_forge_what_a_terminal_shows(capsys: pytest.CaptureFixture[str]) -> None:
    show({"product": "\x1b[2Jkettle", "dead_letters": [{"detail": "\x9b31m"}]}, as_json=False)
    assert capsys.readouterr().out == "product  [2Jkettle\ndead_letters\n   detail= 31m\n"


def test_a_call(run: Run, pipeline: Pipeline) -> None:
    events = messages(pipeline.topics, whole_call("explained", TALK))
    pipeline.produce(events[:-1])
    pipeline.wait(lambda: pipeline.one("SELECT last_seq FROM ingest.calls WHERE call_id = 'explained'") == 15, "chunks")
    waiting = run("explain", "call", "explained", "--json").json()
    assert (waiting["state"], waiting["audio_state"], waiting["runs"]) == ("streaming", "streaming", [])
    assert waiting["waits_for"].startswith("more audio, call.ended")
    pipeline.produce(events[-1:])
    state = "SELECT state FROM ingest.call_runs WHERE call_id = 'explained'"
    pipeline.wait(lambda: pipeline.one(state) == "analysed", "its analysis")
    done = run("explain", "call", "explained", "--json").json()
    assert (done["state"], done["audio_state"], done["close_reason"]) == ("analysed", "ended", "ended")
    assert (done["gap_ms"], done["waits_for"]) == (0, "nothing")
    [its_run] = done["runs"]
    assert (its_run["run_id"], its_run["current"], its_run["state"]) == (str(pipeline.run_id), True, "analysed")
    assert its_run["rows"] == its_run["utterances"] > 0
    verdicts = done["verdicts_of_all_calls_in_its_audio_partition"]
    assert {row["kind"] for row in verdicts} >= {"control", "consumed"}
    assert all(0 <= row["first_offset"] <= row["last_offset"] for row in verdicts)
    stages = {row["stage"]: row for row in done["stages_of_its_partition"]}
    assert list(stages) == ["segmenter", "summarizer", "transcriber"]
    assert {row["partition"] for row in stages.values()} == {done["partition"]}
    assert stages["segmenter"]["next_offset"] > verdicts[0]["last_offset"]
    shown = run("explain", "call", "explained")
    assert (shown.code, "waits_for nothing" in shown.out) == (0, True)


def test_a_review(run: Run, pipeline: Pipeline) -> None:
    pipeline.produce(messages(pipeline.topics, [review("explained", "The battery died.", version=3)]))
    pipeline.wait(lambda: pipeline.rows("SELECT 1 FROM ingest.reviews WHERE review_id = 'explained'"), "the review")
    told = run("explain", "review", "explained", "--json").json()
    assert (told["state"], told["version"], told["waits_for"], told["dead_letters"]) == ("analysed", 3, "nothing", [])
    assert [(one["verdict"], one["current"], one["aspects"]) for one in told["runs"]] == [("result", True, 1)]
    [stage] = told["stages_of_its_partition"]
    assert (stage["stage"], stage["partition"]) == ("reviewer", told["runs"][0]["source_partition"])
    assert stage["next_offset"] > told["offset"] == told["runs"][0]["source_offset"]
    assert "battery" not in run("explain", "review", "explained").out


def test_a_review_in_each_of_its_states(run: Run, pipeline: Pipeline) -> None:
    """Also in a run that analysts see and no worker has written under yet."""
    german = review("explained-de", "Der Akku ist leider sehr schwach und die Lieferung kam zu spät.")
    gone = [review("explained-gone"), ReviewDeleted(review_id="explained-gone")]
    for place in pipeline.produce(messages(pipeline.topics, [german, *gone, review("explained-old")])):
        pipeline.wait(lambda place=place: pipeline.verdict("reviewer", place), "its verdict")  # type: ignore[misc]

    def told(review_id: str) -> tuple[str, str]:
        found = run("explain", "review", review_id, "--json").json()
        return found["state"], found["waits_for"]

    assert told("explained-de") == ("unsupported_language", "nothing")
    assert told("explained-gone") == ("deleted", "nothing")
    assert told("explained-old") == ("analysed", "nothing")
    pipeline.open_run({"test": "nobody works for it"})
    try:
        assert told("explained-old") == ("submitted", "the reviewer, in the current run")
        assert told("explained-gone") == ("deleted", "nothing")
    finally:
        assert run("runs", "use", str(pipeline.run_id)).code == 0


def test_a_paused_call_waits_for_something_else(run: Run, pipeline: Pipeline) -> None:
    identity = {"call_id": "explained-paused", "call_started_at": STARTED}
    events = [*whole_call("explained-paused", TALK)[:3], CallPaused(**identity, offset_ms=1_000)]
    pipeline.produce(messages(pipeline.topics, events))
    paused = "SELECT paused FROM ingest.calls WHERE call_id = 'explained-paused'"
    pipeline.wait(lambda: pipeline.rows(paused) == [(True,)], "the pause")
    assert (
        run("explain", "call", "explained-paused", "--json").json()["waits_for"].startswith("call.resumed, call.ended")
    )


def test_a_call_of_which_an_utterance_was_buried(run: Run, pipeline: Pipeline) -> None:
    """Its letter is about the utterance; a review of the same name has letters of its own."""
    call = whole_call("explained-piece", TALK)
    pipeline.produce(messages(pipeline.topics, call))
    state = "SELECT state FROM ingest.call_runs WHERE call_id = 'explained-piece'"
    pipeline.wait(lambda: pipeline.one(state) == "analysed", "its analysis")
    of_call = [one for one in pipeline.records(pipeline.topics.calls_utterances) if one.key == b"explained-piece"]
    [first, *_] = [one for one in of_call if dict(one.headers).get("utterance_id")]
    headers = tuple((name, b"12000" if name == "rate" else value) for name, value in first.headers)
    [said] = messages(pipeline.topics, [review("explained-piece")])
    [place, other] = pipeline.produce(
        [
            Message(topic=pipeline.topics.calls_utterances, key=b"explained-piece", value=first.value, headers=headers),
            replace(said, value=b"{"),
        ]
    )
    pipeline.wait(lambda: pipeline.verdict("transcriber", place), "its verdict")
    pipeline.wait(lambda: pipeline.verdict("reviewer", other), "the review's verdict")
    [letter] = run("explain", "call", "explained-piece", "--json").json()["dead_letters"]
    assert (letter["stage"], letter["reason"], letter["offset"]) == ("transcriber", "unsupported_rate", place.offset)
    [letter] = run("explain", "review", "explained-piece", "--json").json()["dead_letters"]
    assert letter["stage"] == "reviewer"


def test_a_record_that_was_buried(run: Run, pipeline: Pipeline) -> None:
    [said] = messages(pipeline.topics, [review("explained-buried", version=1)])
    [place] = pipeline.produce([said.__class__(topic=said.topic, key=said.key, value=b"{", headers=said.headers)])
    pipeline.wait(lambda: pipeline.verdict("reviewer", place), "its verdict")
    told = run("explain", "review", "explained-buried", "--json").json()
    [letter] = told["dead_letters"]
    assert (letter["reason"], letter["offset"], told["waits_for"]) == ("invalid_json", place.offset, "nothing")
    assert told["state"] == "dead_lettered"
    replayed = "UPDATE ingest.dead_letters SET replayed_at = now() WHERE dead_letter_id = %s RETURNING 1"
    assert pipeline.one(replayed, letter["dead_letter_id"]) == 1  # as if it were on its way
    assert run("explain", "review", "explained-buried", "--json").json()["waits_for"].startswith("its replay")


def test_what_never_came_says_how_far_its_stage_is(run: Run, pipeline: Pipeline) -> None:
    """With nobody at work, all that was sent is left; where Kafka is away, that is said."""
    pipeline.wait(lambda: "has read all that Kafka has" in run("explain", "review", "never").sentence(), "no lag")
    with Pipeline(pipeline.stack) as idle:
        idle.produce(messages(idle.topics, [review(f"waiting-{n}") for n in range(3)]))
        settings = {"EARFUL_POSTGRES_URL": idle.url, "EARFUL_TOPIC_PREFIX": idle.topics.prefix}
        assert "the reviewer has 3 records yet to read" in run("explain", "review", "waiting-1", **settings).sentence()
        assert "the segmenter has read all" in run("explain", "call", "waiting", **settings).sentence()
    away = run("explain", "call", "never", EARFUL_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (away.code, "how far the segmenter is behind is not known: no Kafka" in away.sentence()) == (1, True)


def test_how_far_a_stage_is_is_asked_for_a_bounded_time(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka falls silent when it has let us in."""
    kafka = pipeline.stack.kafka.pid
    if kafka is None:
        pytest.skip("a borrowed stack's Kafka is not ours to halt")

    halted: list[float] = []

    class Unlucky(KafkaAdminClient):  # type: ignore[misc]
        def describe_topics(self, topics: list[str]) -> list[dict[str, Any]]:
            super().describe_topics(topics)  # connects, which has a limit of its own
            os.kill(kafka, signal.SIGSTOP)
            halted.append(time.monotonic())
            return super().describe_topics(topics)  # type: ignore[no-any-return]

    servers = {"kafka_bootstrap_servers": pipeline.stack.endpoints["kafka"], "postgres_url": SecretStr(pipeline.url)}
    using = Settings(**servers, topic_prefix=pipeline.topics.prefix)
    monkeypatch.setattr(lag, "KafkaAdminClient", Unlucky)
    monkeypatch.setattr(lag, "ANSWER_MS", 4_000)
    try:
        with pytest.raises(Transient, match="Kafka does not tell its offsets"):
            lag.lag(using)
    finally:
        os.kill(kafka, signal.SIGCONT)
    assert time.monotonic() - halted[0] < 20  # its clients' own patience is 30 s
