"""`earful report`: which calls and how many reviews it shows."""

from __future__ import annotations

from tests.commands.conftest import Run
from tests.workers.pipeline import Pipeline
from tests.workers.sending import messages, review, sample, whole_call

TALK = sample("calls/card-fee", 0, 4_000)


def test_chosen_calls_and_numbers_of_reviews(run: Run, pipeline: Pipeline) -> None:
    calls = [message for name in ("report-1", "report-2") for message in whole_call(name, TALK)]
    pipeline.produce(messages(pipeline.topics, [*calls, *(review(f"report-{n}") for n in range(3))]))
    done = "SELECT count(*) FROM ingest.call_runs WHERE call_id LIKE 'report-%%' AND state = 'analysed'"
    pipeline.wait(lambda: pipeline.one(done) == 2, "both calls")
    pipeline.wait(
        lambda: pipeline.one("SELECT count(*) FROM ingest.reviews WHERE review_id LIKE 'report-%%'") == 3, "the reviews"
    )
    told = run("report", "--call", "report-2", "--reviews", "2", "--json").json()
    assert [call["call_id"] for call in told["calls"]] == ["report-2"]
    assert len(told["reviews"]) == 2
    assert len(run("report", "--calls", "1", "--json").json()["calls"]) == 1
    shown = run("report", "--calls", "0", "--reviews", "0")
    assert (shown.code, "report-1" in shown.out) == (0, False)


def test_an_unknown_call_is_an_error(run: Run, pipeline: Pipeline) -> None:
    done = run("report", "--call", "nobody")
    assert (done.code, done.out) == (1, "")
    assert "no such call: nobody" in done.err
