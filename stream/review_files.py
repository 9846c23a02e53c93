"""Reviews from a .jsonl or .csv file, each line checked and named when it is wrong.

Fields are those of docs/events.md. A line with `"deleted": true` (CSV: a column `deleted` with "true" or "1") deletes
its review_id. `created_at` may also be a date or a time without offset, taken as UTC: spreadsheets have no better.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from stream.limits import MAX_REVIEW_CHARS
from stream.reviews import Review, ReviewDeleted, review_from

__all__ = ["Checked", "ReviewFileError", "check_reviews", "in_one_line", "read_reviews"]

# A review of 20,000 characters takes at most 240 kB of JSON (each as an escaped pair, 12 bytes).
_MAX_LINE = 12 * MAX_REVIEW_CHARS + 100_000
_MAX_PROBLEMS = 100

_YES, _NO = {"true", "1", "yes"}, {"", "false", "0", "no"}


class ReviewFileError(ValueError):
    """A line of the file is no review; `line` counts from 1. Correct the line and read the file again."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(path, line, problem)
        self.path, self.line, self.problem = path, line, problem

    def __str__(self) -> str:
        return f"{self.path.name}, line {self.line}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What `check_reviews` found; `events` (reviews, edits, deletions) of the whole file, or up to the last problem."""

    events: int
    problems: list[ReviewFileError]
    whole: bool


def read_reviews(path: Path | str) -> Iterator[Review | ReviewDeleted]:
    """The reviews of a file in order. Raises ReviewFileError at the first wrong line, or OSError."""
    for item in _events(Path(path)):
        if isinstance(item, ReviewFileError):
            raise item
        yield item


def check_reviews(path: Path | str) -> Checked:
    """Every wrong line of a file, 100 at most; none if all is well. Raises ReviewFileError for another kind of file, or OSError."""
    events, problems = 0, []
    for item in _events(Path(path)):
        if not isinstance(item, ReviewFileError):
            events += 1
            continue
        problems.append(item)
        if len(problems) == _MAX_PROBLEMS:
            return Checked(events=events, problems=problems, whole=False)
    return Checked(events=events, problems=problems, whole=True)


def _events(path: Path) -> Iterator[Review | ReviewDeleted | ReviewFileError]:
    rows = {".jsonl": _json_rows, ".csv": _csv_rows}.get(path.suffix.lower())
    if rows is None:
        raise ReviewFileError(path, 1, "reviews come as .jsonl or .csv")
    for line, row in rows(path):
        if isinstance(row, str):
            yield ReviewFileError(path, line, row)
            continue
        try:
            yield _event(row)
        except ValidationError as err:
            yield ReviewFileError(path, line, in_one_line(err, "line"))
        except ValueError as err:
            yield ReviewFileError(path, line, str(err))


def _event(row: Mapping[str, object]) -> Review | ReviewDeleted:
    fields = {name: value for name, value in row.items() if value is not None}
    deleted = str(fields.pop("deleted", "")).strip().lower()
    if deleted not in _YES | _NO:
        raise ValueError("deleted: true or false")
    if deleted in _YES:
        return ReviewDeleted.model_validate({name: fields.get(name) for name in ("review_id", "version")})
    created = fields.get("created_at")
    if isinstance(created, str):
        fields["created_at"] = _with_offset(created)
    return review_from(fields)


def _with_offset(created: str) -> str:
    try:
        moment = datetime.fromisoformat(created.strip())
    except ValueError:
        return created
    return created if moment.tzinfo is not None else f"{moment.isoformat()}Z"


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, object] | str]]:
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(_MAX_LINE):
            number += 1
            if len(raw) == _MAX_LINE and not raw.endswith(b"\n"):
                yield number, f"longer than {_MAX_LINE} bytes"
                return
            if raw.strip():
                yield number, _json_row(raw)


def _json_row(raw: bytes) -> dict[str, object] | str:
    try:
        row = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, RecursionError):
        return "not JSON"
    return row if isinstance(row, dict) else "not a JSON object"


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, object] | str]]:
    line = 1
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            if "review_id" not in (reader.fieldnames or ()):
                yield 1, "the first line names the columns; review_id is not among them"
                return
            line = reader.line_num + 1
            for row in reader:
                if None in row:
                    yield line, "more cells than columns"
                else:
                    yield line, {name: value for name, value in row.items() if value not in ("", None)}
                line = reader.line_num + 1
        except UnicodeDecodeError:
            yield line, "not UTF-8, here or a little later"
        except csv.Error as err:
            yield line, f"not CSV: {err}"


def in_one_line(error: ValidationError, whole: str) -> str:
    """Field and problem of each error, without what stood there; `whole` names what is wrong where no field is."""
    parts = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, part['loc'])) or whole}: {part['msg']}" for part in parts)
