"""`earful sql` is an analyst: views, read only, one statement."""

from __future__ import annotations

import pytest

from tests.commands.conftest import Run
from tests.workers.pipeline import Pipeline
from tests.workers.sending import messages, review


def test_views_answer(run: Run, pipeline: Pipeline) -> None:
    pipeline.produce(messages(pipeline.topics, [review("sql-1", "The [/battery] is [bold]great[/bold].")]))
    query = "SELECT review_id, text FROM analytics_v1.reviews WHERE review_id = 'sql-1'"
    pipeline.wait(lambda: pipeline.rows(query), "the review")
    assert run("sql", query, "--json").json() == [
        {"review_id": "sql-1", "text": "The [/battery] is [bold]great[/bold]."}
    ]
    shown = run("sql", query)
    assert (shown.code, "The [/battery] is [bold]great[/bold]." in shown.out) == (0, True)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM ingest.utterances",
        "SELECT * FROM pii.review_texts",
        "SELECT * FROM ingest.dead_letters",
        "DELETE FROM analytics_v1.reviews",
        "INSERT INTO ingest.runs (run_id, spec) VALUES (gen_random_uuid(), '{}')",
        "CREATE TABLE analytics_v1.mine (n int)",
        "CREATE TEMP TABLE mine (n int)",
        "SELECT set_config('role', 'none', true), count(*) FROM pii.review_texts",
        "RESET ROLE; SELECT * FROM pii.review_texts",
        "COMMIT; DROP SCHEMA analytics_v1 CASCADE",
        "DO $$ BEGIN RESET ROLE; DELETE FROM ingest.runs; END $$",
    ],
)
def test_base_tables_and_writes_are_refused(run: Run, pipeline: Pipeline, query: str) -> None:
    before = pipeline.one("SELECT count(*) FROM ingest.runs")
    done = run("sql", query)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert pipeline.one("SELECT count(*) FROM ingest.runs") == before
    assert run("sql", "SELECT count(*) AS n FROM analytics_v1.reviews", "--json").code == 0
