"""`earful explain`: what became of a call or a review, and what it waits for."""

from __future__ import annotations

from tests.commands.conftest import Run
from tests.workers.pipeline import Pipeline
from tests.workers.sending import messages, review, sample, whole_call

TALK = sample("calls/card-fee", 0, 8_000)


def test_a_call(run: Run, pipeline: Pipeline) -> None:
    events = messages(pipeline.topics, whole_call("explained", TALK))
    pipeline.produce(events[:-1])
    pipeline.wait(lambda: pipeline.one("SELECT last_seq FROM ingest.calls WHERE call_id = 'explained'") == 15, "chunks")
    waiting = run("explain", "call", "explained", "--json").json()
    assert (waiting["state"], waiting["runs"]) == ("streaming", [])
    assert waiting["waits_for"].startswith("more audio, call.ended")
    pipeline.produce(events[-1:])
    state = "SELECT state FROM ingest.call_runs WHERE call_id = 'explained'"
    pipeline.wait(lambda: pipeline.one(state) == "analysed", "its analysis")
    done = run("explain", "call", "explained", "--json").json()
    assert (done["state"], done["close_reason"], done["gap_ms"], done["waits_for"]) == ("ended", "ended", 0, "nothing")
    [its_run] = done["runs"]
    assert (its_run["run_id"], its_run["current"], its_run["state"]) == (str(pipeline.run_id), True, "analysed")
    assert its_run["rows"] == its_run["utterances"] > 0
    assert {row["kind"] for row in done["verdicts_of_its_audio_partition"]} >= {"control", "consumed"}
    shown = run("explain", "call", "explained")
    assert (shown.code, "waits_for nothing" in shown.out) == (0, True)


def test_a_review(run: Run, pipeline: Pipeline) -> None:
    pipeline.produce(messages(pipeline.topics, [review("explained", "The battery died.", version=3)]))
    pipeline.wait(lambda: pipeline.rows("SELECT 1 FROM ingest.reviews WHERE review_id = 'explained'"), "the review")
    told = run("explain", "review", "explained", "--json").json()
    assert (told["version"], told["deleted"], told["waits_for"], told["dead_letters"]) == (3, False, "nothing", [])
    assert [(one["verdict"], one["current"], one["aspects"]) for one in told["runs"]] == [("result", True, 1)]
    assert "battery" not in run("explain", "review", "explained").out


def test_a_record_that_was_buried(run: Run, pipeline: Pipeline) -> None:
    [said] = messages(pipeline.topics, [review("explained-buried", version=1)])
    [place] = pipeline.produce([said.__class__(topic=said.topic, key=said.key, value=b"{", headers=said.headers)])
    pipeline.wait(lambda: pipeline.verdict("reviewer", place), "its verdict")
    told = run("explain", "review", "explained-buried", "--json").json()
    [letter] = told["dead_letters"]
    assert (letter["reason"], letter["offset"], told["waits_for"]) == ("invalid_json", place.offset, "nothing")
