"""The report's queries against a real database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from report import Report, read
from report.model import Quote, Tally


@pytest.fixture(scope="module")
def connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url) as opened:
        opened.execute("SET SESSION AUTHORIZATION earful_analyst")  # the views alone must do
        opened.commit()
        yield opened


@pytest.fixture(scope="module")
def report(connection: psycopg.Connection[Any]) -> Report:
    return read(connection)


def test_calls_come_oldest_first_with_what_became_of_them(report: Report) -> None:
    assert [(call.call_id, call.state, call.gap_ms) for call in report.calls] == [
        ("c1", "analysed", 0),
        ("c2", "no_speech", 4000),
    ]
    assert report.calls_total == 2
    assert report.calls[1].lines == ()
    assert report.calls[1].summary is None


def test_a_transcript_is_of_the_current_run_in_the_order_of_time(report: Report) -> None:
    lines = report.calls[0].lines
    assert [(line.role, line.start_ms, line.text) for line in lines] == [
        ("customer", 1_000, "The battery is dead."),
        ("agent", 62_000, "I will send a new battery."),
    ]
    (mention,) = lines[0].mentions
    assert lines[0].text[mention.span_start : mention.span_end] == mention.text == "battery"
    assert (mention.polarity, lines[1].mentions) == ("negative", ())


def test_findings_point_at_the_times_of_their_utterances(report: Report) -> None:
    call = report.calls[0]
    assert call.issue == Quote(text="The battery is dead.", at_ms=(1_000,))
    assert call.outcome is None
    assert call.actions == (Quote(text="I will send a new battery.", at_ms=(62_000,)),)


def test_aspects_stand_side_by_side_shared_ones_first(report: Report) -> None:
    assert report.reviews_total == 3
    assert [(row.product, row.aspect_id) for row in report.aspects] == [("Phone", "battery"), ("Phone", "screen")]
    battery, screen = report.aspects
    assert battery.calls == Tally(negative=1)
    assert battery.reviews == Tally(negative=1, positive=2)
    assert battery.reviews.net == pytest.approx(1 / 3)
    assert screen.calls.net is None


def test_completeness_adds_up_over_the_hours(report: Report) -> None:
    calls, reviews = report.completeness
    assert (calls.source, calls.total, calls.complete, calls.no_speech, calls.gap_ms) == ("call", 2, 2, 1, 4000)
    assert (reviews.source, reviews.total, reviews.analysed, reviews.dead_lettered) == ("review", 5, 3, 2)


def test_dead_letters_are_counted_by_reason(report: Report) -> None:
    (row,) = report.dead_letters
    assert (row.stage, row.reason, row.records, row.replayed) == ("reviewer", "invalid_json", 2, 0)


def test_freshness_has_a_row_for_each_kind(report: Report) -> None:
    assert {row.kind: row.rows for row in report.freshness} == {"utterance": 2, "summary": 1, "review": 3}
    assert all(row.max_ms >= row.p95_ms >= row.p50_ms > 0 for row in report.freshness)


def test_the_newest_reviews_come_with_their_aspects(connection: psycopg.Connection[Any], report: Report) -> None:
    assert [review.review_id for review in report.reviews] == ["r0", "r1", "r2"]
    review = report.reviews[2]
    assert (review.version, review.product, review.rating, review.text) == (None, "Phone", None, "The battery.")
    assert [(one.aspect_id, one.polarity) for one in review.mentions] == [
        ("screen", "positive"),
        ("battery", "negative"),
    ]
    assert [one.review_id for one in read(connection, reviews=1).reviews] == ["r2"]


def test_calls_can_be_named_or_limited(connection: psycopg.Connection[Any]) -> None:
    assert [call.call_id for call in read(connection, calls=1).calls] == ["c2"]
    assert [call.call_id for call in read(connection, call_ids=["c1", "nobody"]).calls] == ["c1"]
    assert read(connection, call_ids=[]).calls == ()
    assert read(connection, calls=1).calls_total == 2


def test_the_connection_is_left_as_it_was(connection: psycopg.Connection[Any]) -> None:
    for before in ("IDLE", "INTRANS"):
        if before == "INTRANS":
            connection.execute("SELECT 1")
        read(connection)
        assert connection.info.transaction_status.name == before
    connection.rollback()


def test_the_json_is_json_and_says_the_same(report: Report) -> None:
    told = json.loads(json.dumps(report.to_dict()))
    assert told["calls"][0]["call_started_at"] == "2026-03-10T09:00:00+00:00"
    assert told["calls"][0]["lines"][0]["mentions"][0]["aspect_id"] == "battery"
    assert told["aspects"][0]["reviews"] == {
        "negative": 1,
        "neutral": 0,
        "positive": 2,
        "mentions": 3,
        "net": pytest.approx(1 / 3),
    }
    assert told["aspects"][1]["calls"]["net"] is None


def test_an_empty_database_gives_an_empty_report(empty_url: str, url: str) -> None:
    with psycopg.connect(empty_url) as opened:
        assert read(opened) == Report(
            calls_total=0,
            reviews_total=0,
            calls=(),
            reviews=(),
            aspects=(),
            completeness=(),
            freshness=(),
            dead_letters=(),
        )
