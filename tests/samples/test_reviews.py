"""The sample reviews: what the generator writes, and what their truth promises."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from samples import make_reviews

SAMPLES = Path(make_reviews.__file__).parent


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLES / name).read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    return read("reviews.jsonl")


@pytest.fixture(scope="module")
def truth() -> list[dict[str, Any]]:
    return read("reviews.truth.jsonl")


def final(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    left: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("deleted"):
            del left[event["review_id"]]
        else:
            assert event["version"] == left.get(event["review_id"], {"version": 0})["version"] + 1
            left[event["review_id"]] = event
    return left


@pytest.mark.parametrize("name", ["reviews.jsonl", "reviews.truth.jsonl"])
def test_the_committed_files_are_what_the_generator_writes(tmp_path: Path, name: str) -> None:
    make_reviews.main(tmp_path)
    assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes()


def test_enough_of_everything(events: list[dict[str, Any]]) -> None:
    versions = Counter(event["version"] for event in events if not event.get("deleted"))
    assert versions[1] >= 240
    assert versions[2] == make_reviews.EDITS
    assert sum(bool(event.get("deleted")) for event in events) == 2
    texts = [event["text"] for event in events if "text" in event]
    assert len(set(texts)) == len(texts)


def test_the_products_of_the_calls_are_among_them(events: list[dict[str, Any]]) -> None:
    called = {json.loads(path.read_text("utf-8"))["product"] for path in (SAMPLES / "calls").glob("*.json")}
    reviewed = Counter(event["product"] for event in events if "product" in event)
    assert len(called) == 6
    assert called < set(reviewed)
    assert min(reviewed.values()) >= 30


def test_dates_span_sixty_days_and_never_fall(events: list[dict[str, Any]]) -> None:
    times = [datetime.fromisoformat(event["created_at"]) for event in events if event["version"] == 1]
    assert all(time.tzinfo is not None for time in times)
    assert times == sorted(times)
    assert len({time.date() for time in times}) >= 55
    assert (times[-1].date() - times[0].date()).days == make_reviews.DAYS - 1


def test_each_truth_aspect_stands_in_its_text(events: list[dict[str, Any]], truth: list[dict[str, Any]]) -> None:
    left = final(events)
    assert {row["review_id"] for row in truth} == set(left)
    for row in truth:
        review = left[row["review_id"]]
        assert row["version"] == review["version"]
        assert len(row["spans"]) == len(row["aspects"])
        for (term, polarity), (start, end) in zip(row["aspects"], row["spans"], strict=True):
            assert review["text"][start:end] == term
            assert polarity in make_reviews.POLARITIES
        assert "[" not in review["text"]


def test_the_mix_is_not_one_sided(truth: list[dict[str, Any]]) -> None:
    polarities = Counter(polarity for row in truth for _, polarity in row["aspects"])
    total = polarities.total()
    assert polarities["positive"] / total > 0.3
    assert polarities["negative"] / total > 0.3
    assert polarities["neutral"] / total > 0.05
    counts = Counter(len(row["aspects"]) for row in truth)
    assert set(counts) == {0, 1, 2, 3, 4}
    mixed = sum(len({polarity for _, polarity in row["aspects"]}) > 1 for row in truth)
    assert mixed > len(truth) / 3


def test_an_unknown_mark_is_named_with_its_line(tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("= A | a\n? what\n", "utf-8")
    with pytest.raises(ValueError, match=r"line 2: unknown mark '\?'"):
        make_reviews.load_phrases(phrases)
