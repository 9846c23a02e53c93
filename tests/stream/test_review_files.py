"""Reviews from .jsonl and .csv; a wrong line is named and its content is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stream.events import Review, ReviewDeleted
from stream.review_files import Checked, ReviewFileError, check_reviews, read_reviews

GOOD = {"review_id": "r-1", "product": "kettle", "text": "Fast.", "created_at": "2026-05-01T12:00:00Z"}


def jsonl(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "reviews.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def csv_file(tmp_path: Path, content: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "reviews.csv"
    path.write_bytes(content.encode(encoding))
    return path


def test_jsonl_with_edits_deletions_and_unknown_fields(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        {**GOOD, "rating": 4, "stars_colour": "gold"},
        b"",
        {**GOOD, "text": "Fast, but loud.", "version": 2},
        {"review_id": "r-1", "deleted": True, "version": 3},
    )
    first, second, third = read_reviews(path)
    assert isinstance(first, Review)
    assert isinstance(second, Review)
    assert (first.rating, first.created_at) == (4.0, datetime(2026, 5, 1, 12, tzinfo=UTC))
    assert (second.text, second.version) == ("Fast, but loud.", 2)
    assert third == ReviewDeleted(review_id="r-1", version=3)
    assert check_reviews(path) == Checked(events=3, problems=[], whole=True)


def test_csv_as_spreadsheets_write_it(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        "review_id,product,text,created_at,rating,deleted\r\n"
        'r-1,kettle,"Fast.\nAnd ""quiet"".",2026-05-01,4.5,\r\n'
        "r-2,kettle,Slow.,2026-05-01 08:30:00,,no\r\n"
        "r-1,,,,,TRUE\r\n",
        encoding="utf-8-sig",
    )
    first, second, third = read_reviews(path)
    assert isinstance(first, Review)
    assert isinstance(second, Review)
    assert first.text == 'Fast.\nAnd "quiet".'
    assert first.rating == 4.5
    assert first.created_at == datetime(2026, 5, 1, tzinfo=UTC)
    assert (second.rating, second.created_at) == (None, datetime(2026, 5, 1, 8, 30, tzinfo=UTC))
    assert third == ReviewDeleted(review_id="r-1")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"not json secret", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        ({**GOOD, "text": " "}, "text"),
        ({**GOOD, "text": "x" * 20_001}, "text"),
        ({**GOOD, "created_at": "1970-01-01"}, "created_at"),
        ({**GOOD, "created_at": "yesterday"}, "created_at"),
        ({**GOOD, "rating": "many"}, "rating"),
        ({**GOOD, "deleted": "perhaps"}, "deleted"),
        ({"deleted": True}, "review_id"),
        ({"review_id": "r-1", "text": "secret", "created_at": "2026-05-01"}, "product"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: object, problem: str) -> None:
    path = jsonl(tmp_path, GOOD, b"", line, GOOD)
    reviews = read_reviews(path)
    assert isinstance(next(reviews), Review)
    with pytest.raises(ReviewFileError, match=problem) as wrong:
        next(reviews)
    assert wrong.value.line == 3
    assert str(wrong.value).startswith("reviews.jsonl, line 3: ")
    assert "secret" not in str(wrong.value)
    assert [found.line for found in check_reviews(path).problems] == [3]


def test_every_wrong_line_is_found_up_to_a_hundred(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *[{**GOOD, "text": ""}, GOOD] * 150)
    found = check_reviews(path)
    assert [problem.line for problem in found.problems] == list(range(1, 201, 2))
    assert (found.events, found.whole) == (99, False)


def test_a_wrong_line_of_csv_is_named_by_where_it_begins(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        'review_id,product,text,created_at\nr-1,kettle,"two\nlines",2026-05-01\nr-2,kettle,,2026-05-01\nr-3,a,b,c,d\n',
    )
    assert [(found.line, found.problem.partition(":")[0]) for found in check_reviews(path).problems] == [
        (4, "text"),
        (5, "more cells than columns"),
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "columns"),
        ("a,b\n1,2\n", "columns"),
        ('review_id,text\nr-1,"open', "not CSV"),
        ("review_id\ncaf\xe9\n", "UTF-8"),
    ],
)
def test_a_file_that_is_no_csv(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(ReviewFileError, match=problem):
        list(read_reviews(csv_file(tmp_path, content, encoding="latin-1")))


def test_an_endless_line_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD, b'"' + b"x" * 2_000_000)
    assert [found.line for found in check_reviews(path).problems] == [2]


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReviewFileError, match=r"\.jsonl or \.csv"):
        list(read_reviews(tmp_path / "reviews.xlsx"))
