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


def test_no_more_rows_are_fetched_than_are_shown(run: Run) -> None:
    """Row 100,000 would be an error: a terminal is shown the first 200 and does not ask for it, a program does."""
    query = "SELECT n, 1 / (n - 100000) AS q FROM generate_series(1, 200000) AS n"
    shown = run("sql", query)
    assert (shown.code, "the first 200 rows" in shown.out, shown.out.splitlines()[200].split()[0]) == (0, True, "200")
    assert "division by zero" in run("sql", query, "--json").sentence()
    few = run("sql", "SELECT n FROM generate_series(1, 200) AS n")
    assert (few.code, "the first" in few.out, few.out.split()[-1]) == (0, False, "200")
    assert run("sql", "SELECT 1 AS n WHERE false").out.strip() == "no rows"
    assert run("sql", "SELECT 1 AS n WHERE false", "--json").json() == []


def test_columns_of_one_name_are_all_shown(run: Run) -> None:
    query = "SELECT count(n), count(n) + 5 AS count, 7 AS count_2 FROM generate_series(1, 3) AS n"
    assert run("sql", query, "--json").json() == [{"count": 3, "count_2": 8, "count_2_2": 7}]
    assert [line.split() for line in run("sql", query).out.splitlines()] == [
        ["count", "count_2", "count_2_2"],
        ["3", "8", "7"],
    ]


@pytest.mark.parametrize("query", ["", "SET search_path = analytics_v1", "COPY (SELECT 1) TO STDOUT"])
def test_what_gives_no_rows_is_refused_in_one_sentence(run: Run, query: str) -> None:
    done = run("sql", query)
    assert (done.code, "one SELECT is wanted" in done.sentence()) == (1, True)


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


def test_times_are_utc_whatever_the_servers_zone(run: Run) -> None:
    query = "SELECT timestamptz '2026-05-04T10:30:00Z' AS at, avg(n) AS n FROM generate_series(1, 2) AS n"
    elsewhere = {"PGTZ": "Asia/Tokyo"}  # as a server of that zone would have it
    assert run("sql", query, "--json", **elsewhere).json() == [{"at": "2026-05-04T10:30:00+00:00", "n": 1.5}]
    assert "2026-05-04 10:30:00+00:00" in run("sql", query, **elsewhere).out
