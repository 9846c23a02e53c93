"""The report's layout: what is said, at any width, without trusting what customers said."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console

from report.model import (
    AspectRow,
    CallReport,
    Completeness,
    DeadLetters,
    Freshness,
    Line,
    Mention,
    Quote,
    Report,
    ReviewReport,
    Tally,
)
from report.render import clean, clock, render

NOW = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)


def mention(text: str, polarity: str, start: int) -> Mention:
    return Mention(
        text=text,
        aspect_id=text,
        polarity=polarity,
        sentiment=0.0,
        confidence=0.9,
        span_start=start,
        span_end=start + len(text),
    )


def line(role: str, start_ms: int, text: str, *mentions: Mention, channel: int = 0) -> Line:
    return Line(
        utterance_id=UUID(int=start_ms),
        channel=channel,
        role=role,
        start_ms=start_ms,
        end_ms=start_ms + 1000,
        text=text,
        mentions=mentions,
    )


def call(**other: Any) -> CallReport:
    values: dict[str, Any] = {
        "call_id": "card-fee",
        "call_started_at": NOW,
        "product": "Rewards Card",
        "roles": ("customer", "agent"),
        "state": "analysed",
        "state_reason": None,
        "duration_ms": 36_311,
        "gap_ms": 0,
        "late_chunks": 0,
        "method": "extractive-v1",
        "issue": Quote(text="There is an annual fee.", at_ms=(4_708,)),
        "outcome": Quote(text="Done.", at_ms=(24_991, 33_049)),
        "actions": (Quote(text="I can waive it.", at_ms=(24_991,)), Quote(text="I will call.", at_ms=())),
        "summary": "x",
        "lines": (
            line("customer", 4_708, "There is an annual fee.", mention("annual fee", "negative", 12)),
            line("agent", 24_991, "I can waive it.", channel=1),
        ),
    }
    return CallReport(**values | other)


def report(**other: Any) -> Report:
    values: dict[str, Any] = {
        "calls_total": len(other.get("calls", ())),
        "reviews_total": 0,
        "calls": (),
        "reviews": (),
        "aspects": (),
        "completeness": (),
        "freshness": (),
        "dead_letters": (),
    }
    return Report(**values | other)


def shown(what: Report, width: int = 110, colour: bool = False, **options: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, color_system="standard" if colour else None)
    console.print(render(what, **options))
    return out.getvalue()


def test_a_call_is_told_with_speakers_times_and_evidence() -> None:
    text = shown(report(calls=(call(),)))
    wanted = [
        "card-fee  Rewards Card · 2026-03-10 09:00 · 0:36 · analysed",
        "0:04  customer  There is an annual fee.",
        "0:24  agent     I can waive it.",
        "Issue    There is an annual fee.  [0:04]",
        "Outcome  Done.  [0:24, 0:33]",
        "Actions  I can waive it.  [0:24]",
        "         I will call.",
        "Aspects  annual fee − 0:04",
        "summary: extractive-v1",
    ]
    places = [text.index(one) for one in wanted]
    assert places == sorted(places)


def test_what_went_wrong_with_a_call_stands_in_its_title() -> None:
    empty = {"issue": None, "outcome": None, "actions": (), "lines": (), "method": None}
    broken = call(state="audio_corrupt", state_reason="truncated", gap_ms=4_000, late_chunks=2, product=None, **empty)
    text = " ".join(shown(report(calls=(broken,))).split())
    assert "no product" in text
    assert "audio_corrupt (truncated) · 4.0 s never came · 2 chunks too late" in text
    assert "Issue" not in text


def test_speakers_of_unknown_role_are_told_apart_by_channel() -> None:
    two = call(lines=(line("unknown", 0, "Hi.", channel=0), line("unknown", 9, "Ho.", channel=1)))
    assert "speaker 1  Hi." in shown(report(calls=(two,)))
    assert "speaker 2  Ho." in shown(report(calls=(two,)))
    one = call(lines=(line("unknown", 0, "Hi."),))
    assert "unknown  Hi." in shown(report(calls=(one,)))


def test_an_aspect_said_twice_is_listed_once() -> None:
    lines = (
        line("customer", 1_000, "app", mention("app", "negative", 0)),
        line("customer", 9_000, "App", mention("App", "negative", 0), mention("App", "positive", 0)),
    )
    assert "Aspects  app − 0:01 0:09 · app + 0:09" in shown(report(calls=(call(lines=lines),)))


def test_aspects_of_calls_and_reviews_stand_side_by_side() -> None:
    rows = tuple(
        AspectRow(product="Phone", aspect_id=f"a{n}", calls=Tally(negative=2 * (n == 0)), reviews=Tally(positive=1))
        for n in range(4)
    )
    lines = shown(report(aspects=rows), aspects=3).splitlines()
    first = next(one for one in lines if "a0" in one)
    assert first.split() == ["Phone", "a0", "-1.00", "2", "+1.00", "1", "-2.00"]
    assert next(one for one in lines if "a1" in one).split() == ["a1", "–", "+1.00", "1"]
    assert not any("a3" in one for one in lines)
    assert any("and 1 more" in one for one in lines)


def test_the_tables_of_operations() -> None:
    counts = {"total": 9, "complete": 8, "open": 1, "analysed": 7, "no_speech": 1, "timed_out": 0}
    complete = Completeness(source="call", **counts, dead_lettered=0, other_terminal=0, gap_ms=4_000, late_chunks=3)
    fresh = Freshness(kind="review", hour=NOW, rows=240, p50_ms=120.0, p95_ms=1_500.0, max_ms=2_000.0)
    dead = DeadLetters(stage="reviewer", reason="no_text", records=2, replayed=1, first_at=NOW, last_at=NOW)
    text = shown(report(completeness=(complete,), freshness=(fresh,), dead_letters=(dead,)))
    rows = [row.split() for row in text.splitlines()]
    assert ["came", "9"] in rows
    assert ["still", "open", "1"] in rows
    assert ["seconds", "of", "audio", "that", "never", "came", "4.0"] in rows
    assert "timed out" not in text  # nothing to say
    assert "…" not in shown(report(completeness=(complete,), freshness=(fresh,), dead_letters=(dead,)), width=72)


def test_a_review_is_shown_with_its_aspects() -> None:
    text = "The screen is fine, the battery is not."
    mentions = mention("screen", "positive", 4), mention("battery", "negative", 24)
    values: dict[str, Any] = {"review_id": "r1", "version": 2, "created_at": NOW, "product": "Phone", "rating": 3.0}
    values["state"] = "analysed"
    lines = shown(report(reviews=(ReviewReport(**values, text=text, mentions=mentions),), reviews_total=7)).splitlines()
    assert lines[0].startswith("The newest of 7 reviews")
    assert [one.strip() for one in lines[1:4]] == [
        "● r1  Phone · 2026-03-10 09:00 · rated 3 · version 2",
        text,
        "screen + · battery −",
    ]


def test_a_review_in_another_language_says_so() -> None:
    values: dict[str, Any] = {"review_id": "r1", "version": 1, "created_at": NOW, "product": "Phone", "rating": None}
    german = ReviewReport(**values, state="unsupported_language", text="Der Akku ist schwach.", mentions=())
    assert "r1  Phone · 2026-03-10 09:00 · unsupported_language" in shown(report(reviews=(german,), reviews_total=1))


def test_a_summary_in_its_own_words_is_shown() -> None:
    free = "The customer wants a new kettle."
    made = {"summary": free, "issue": None, "outcome": None, "actions": ()}
    assert free in shown(report(calls=(replace(call(), method="phi4-x", **made),)))  # type: ignore[arg-type]
    assert free not in shown(report(calls=(replace(call(), method="extractive-v1", **made),)))  # type: ignore[arg-type]


def test_calls_left_out_are_counted_and_nothing_is_said_of_nothing() -> None:
    assert "1 of 7 calls shown." in shown(report(calls=(call(),), calls_total=7))
    assert shown(report()).strip() == "Nothing has been analysed yet."


@pytest.mark.parametrize("colour", [False, True])
def test_words_of_customers_are_neither_markup_nor_escape_sequences(colour: bool) -> None:
    evil = "[red]fee[/red] \x1b[2Jgone \u202eback\u2028next \x07"
    text = shown(
        report(calls=(call(issue=Quote(text=evil, at_ms=()), lines=(line("customer", 0, evil),)),)), colour=colour
    )
    assert "[red]fee[/red]" in text
    for control in ("\x1b[2J", "\u202e", "\u2028", "\x07"):
        assert control not in text


def test_cleaning_keeps_every_character_in_its_place() -> None:
    text = "a\tb\x1bc\u202ed é 日本"
    assert len(clean(text)) == len(text)
    assert clean("é 日本, ok") == "é 日本, ok"
    for needed in (
        "می\u200cخواهم",
        "👩\u200d🔧",
        "a\u200bb",
    ):  # an id is found by what it is, also by what nobody sees of it
        assert clean(needed) == needed


def test_spans_are_coloured_where_they_stand() -> None:
    text = shown(report(calls=(call(),)), colour=True)
    assert "\x1b[4;31mannual fee\x1b[0m" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_any_width_works(width: int) -> None:
    rows = (AspectRow(product="P" * 30, aspect_id="a" * 30, calls=Tally(positive=1), reviews=Tally(positive=1)),)
    for one in shown(report(calls=(call(),), aspects=rows), width=width).splitlines():
        assert len(one) <= width


@pytest.mark.parametrize(("ms", "text"), [(0, "0:00"), (59_999, "0:59"), (60_000, "1:00"), (3_661_000, "1:01:01")])
def test_clock(ms: int, text: str) -> None:
    assert clock(ms) == text
