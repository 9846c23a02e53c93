"""docs/guarantees.md, "Promises": README's promises are all there in its words, and every test that is named exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = " ".join((ROOT / "README.md").read_text("utf-8").split())
SECTION = (ROOT / "docs" / "guarantees.md").read_text("utf-8").partition("## Promises\n")[2].partition("\n## ")[0]
ROWS = [line for line in SECTION.splitlines() if line.startswith("| ") and "| test |" not in line]
QUOTED = [row for row in ROWS if row.startswith('| "')]


def files(row: str) -> list[Path]:
    """The files of a row: by path, or by a name that only one test has."""
    found = []
    for name in re.findall(r"(?<![\w/])(?:tests/[\w/]+|test_\w+)\.py", row):
        paths = [ROOT / name] if "/" in name else [*(ROOT / "tests").rglob(name)]
        assert [path.is_file() for path in paths] == [True], name
        found += paths
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_every_test_that_is_named_exists(row: str) -> None:
    promise, held = row.strip("| ").split(" | ")
    assert promise
    named = files(held)
    assert named, row
    there = {name for path in named for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))}
    assert set(re.findall(r"`(test_\w+)`", held)) - there == set()


def test_the_words_are_readmes_and_no_guarantee_is_left_out() -> None:
    said = [row.split('"')[1] for row in QUOTED]
    assert [words for words in said if words not in README] == []
    guaranteed = README.partition("**Guaranteed.** ")[2].partition(" [Which test")[0]
    left = guaranteed
    for words in said:
        left = left.replace(words, "")
    assert re.sub(r"[\s,.:;]|and ", "", left) == "", left
