"""`earful aspects`, with the models of the model repository."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sentiment.predict import MODEL_REPO
from sentiment.taxonomy import VERSION
from tests.commands.runner import earful

TEXT = "The screen is gorgeous but the battery is terrible."
GERMAN = "Der Akku ist leider sehr schwach und der Bildschirm dunkel."


def test_a_text_shows_its_aspects() -> None:
    done = earful("aspects", TEXT)
    assert done.code == 0, done.err
    first, *table = done.out.splitlines()
    assert first == TEXT
    assert [line.split()[:4] for line in table[1:3]] == [
        ["+", "screen", "product.screen", "positive"],
        ["-", "battery", "product.battery", "negative"],
    ]


def test_controls_of_a_text_reach_no_terminal_and_move_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Well,\a\b\v \x1b[31m the screen is gorgeous."
    assert earful("aspects", text, "--json").json()["aspects"][0]["aspect"] == "screen"
    shown = io.StringIO()
    monkeypatch.setattr("commands.aspects.console", Console(file=shown, force_terminal=True, color_system="standard"))
    earful("aspects", text)
    assert "Well,     [31m the \x1b[1;32mscreen\x1b[0m is gorgeous.\n" in shown.getvalue()
    assert not set("\a\b\v") & set(shown.getvalue())
    Path("a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    shown.truncate(0)
    earful("aspects", "a.jsonl")
    assert "[31m the \x1b[1;32mscreen\x1b[0m is gorgeous.”" in shown.getvalue()
    assert "\x1b[31m the" not in shown.getvalue()


def test_for_programs() -> None:
    found = earful("aspects", TEXT, "--json").json()
    assert [(a["start"], a["end"], a["polarity"]) for a in found["aspects"]] == [
        (4, 10, "positive"),
        (31, 38, "negative"),
    ]
    served = {
        kind: json.loads((MODEL_REPO / kind / "1" / "model.json").read_text())["version"]
        for kind in ("aspects", "cvib")
    }
    assert found["versions"] == served | {"taxonomy": VERSION}
    rows = list(csv.DictReader(io.StringIO(earful("aspects", TEXT, "--csv").out)))
    assert [(row["aspect"], row["aspect_id"]) for row in rows] == [
        ("screen", "product.screen"),
        ("battery", "product.battery"),
    ]
    assert earful("aspects", "Thank you so much, bye.", "--json").json()["aspects"] == []


def test_a_page_is_whole_and_escapes_what_it_shows() -> None:
    out = earful("aspects", f"<script>alert(1)</script> {TEXT}", "--html").out
    assert out.startswith("<!doctype html>")
    assert "<script" not in out
    assert '<mark class="positive" title="product.screen: positive' in out


def test_options_leave_out_and_abstain() -> None:
    assert earful("aspects", TEXT, "--min-confidence", "1", "--json").json()["aspects"] == []
    found = earful("aspects", TEXT, "--abstain-below", "1", "--json").json()["aspects"]
    assert {a["polarity"] for a in found} == {"unsure"}
    assert earful("aspects", TEXT, "--abstain-below", "2").code == 2
    assert earful("aspects", TEXT, "--json", "--csv").code == 2


def test_known_words_are_aspects_wherever_they_stand() -> None:
    text = "Well, the quux is what I came for, and the Quuxes I got."
    assert "quux" not in {
        a["aspect"].lower() for a in earful("aspects", "No quux, thanks.", "--json").json()["aspects"]
    }
    found = earful("aspects", text, "--known", "quux, no such word", "--json").json()["aspects"]
    assert [(a["start"], a["aspect"]) for a in found if "uux" in a["aspect"]] == [(10, "quux"), (43, "Quuxes")]


def test_a_file_gets_a_report_and_bad_texts_are_named() -> None:
    Path("reviews.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for text in [TEXT, GERMAN, "Thanks, bye.", "The battery is great."]) + "\n"
    )
    done = earful("aspects", "reviews.jsonl", "--json")
    assert (done.code, done.err) == (0, "reviews.jsonl, line 2: the text is not English (it looks like de)\n")
    found = done.json()
    [battery] = [one for one in found["report"] if one["aspect"] == "product.battery"]
    assert (battery["mentions"], battery["negative"], battery["positive"], battery["net"]) == (2, 1, 1, 0.0)
    assert battery["low"] < 0 < battery["high"]
    assert battery["quotes"] == {
        "negative": {"line": 1, "text": TEXT, "start": 31, "end": 38},
        "positive": {"line": 4, "text": "The battery is great.", "start": 4, "end": 11},
    }
    assert {one["group"] for one in found["texts"] + found["report"]} == {None}
    refused = found["texts"][1]
    assert (refused["line"], refused["unsupported_language"], refused["aspects"]) == (2, True, [])
    shown = earful("aspects", "reviews.jsonl").out
    assert "product.battery" in shown
    assert "4 texts, 1 without an aspect, 1 refused" in shown
    assert "not English" in earful("aspects", "reviews.jsonl", "--html").out


def test_each_product_has_a_report_of_its_own() -> None:
    rows = [("pot, big", TEXT), ("=pan", "The battery is great."), ("pot, big", "The battery is great."), (None, TEXT)]
    Path("a.jsonl").write_text("".join(json.dumps({"product": name, "text": text}) + "\n" for name, text in rows))
    found = earful("aspects", "a.jsonl", "--by", "product", "--json").json()
    counts = {one["group"]: one["mentions"] for one in found["report"] if one["aspect"] == "product.battery"}
    assert counts == {"pot, big": 2, "=pan": 1, None: 1}
    assert [one["group"] for one in found["texts"]] == ["pot, big", "=pan", "pot, big", None]
    cells = csv.DictReader(io.StringIO(earful("aspects", "a.jsonl", "--by", "product", "--csv").out))
    assert [row["group"] for row in cells] == ["pot, big", "pot, big", "'=pan", "pot, big", "", ""]
    page = earful("aspects", "a.jsonl", "--by", "product", "--html").out
    assert [page.count(f"<h2>{name}</h2>") for name in ("pot, big", "=pan", "(none)")] == [1, 1, 1]
    assert '<mark class="positive">battery</mark> is great.' in page
    shown = earful("aspects", "a.jsonl", "--by", "product").out.splitlines()
    heads = [shown.index(name) for name in ("pot, big", "=pan", "(none)")]
    assert heads == sorted(heads)
    assert sum("product.battery" in line and "“" not in line for line in shown) == 3


def test_what_cannot_be_grouped_is_one_sentence() -> None:
    Path("a.csv").write_text(f"text,shop\n{TEXT},north\n")
    Path("a.txt").write_text(f"{TEXT}\n")
    for what, says in (
        ("a.csv", "a.csv has no 'product': its rows have shop, text"),
        ("a.txt", "have text"),
        (TEXT, "a file"),
    ):
        done = earful("aspects", what, "--by", "product")
        assert (done.code, says in done.sentence()) == (2, True), done.err


def test_a_bar_moves_on_a_terminal_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.txt").write_text(f"{TEXT}\n" * 3)
    assert earful("aspects", "a.txt").err == ""
    shown = io.StringIO()
    monkeypatch.setattr("commands.context.errors", Console(file=shown, force_terminal=True))
    earful("aspects", TEXT)
    assert shown.getvalue() == ""
    assert earful("aspects", "a.txt", "--json").json()["texts"][2]["line"] == 3
    assert "judging" in shown.getvalue()


@pytest.mark.parametrize(("name", "content"), [("a.txt", f"{TEXT}\n\n"), ("a.csv", f"text\n{TEXT}\n")])
def test_other_kinds_of_file(name: str, content: str) -> None:
    Path(name).write_text(content)
    assert [len(one["aspects"]) for one in earful("aspects", name, "--json").json()["texts"]] == [2]


def test_spans_count_characters_of_the_files_line() -> None:
    Path("a.txt").write_bytes(f"  {TEXT} \r\n".encode())
    [one] = earful("aspects", "a.txt", "--json").json()["texts"]
    assert (one["text"], [a["start"] for a in one["aspects"]]) == (f"  {TEXT} ", [6, 33])


def test_what_cannot_be_read_is_one_sentence() -> None:
    assert "not English" in earful("aspects", GERMAN).sentence()
    assert earful("aspects", GERMAN).code == 1
    Path("a.jsonl").write_text('{"text": "fine"}\n{"txt": "x"}\n')
    Path("b.txt").write_bytes(b"fine\n\xff\n")
    for name, says in (
        ("a.jsonl", "line 2: `text` is missing"),
        ("b.txt", "line 2: it is not UTF-8"),
        ("no.csv", "no file"),
    ):
        done = earful("aspects", name)
        assert (done.code, says in done.sentence()) == (2, True), done.err
    assert earful("aspects", "  ").code == 2
