"""Every query of docs/sql.md, as an analyst, against rows with known answers; and its tables of columns."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.store.make import START, later
from tests.store.seed import seed

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"^### (\d+)\. .*?```sql\n(.*?)```", PAGE, flags=re.MULTILINE | re.DOTALL)

ANSWERS: dict[str, list[tuple[object, ...]]] = {
    "1": [
        ("phone", "battery", 1, -1.0, 4, 0.0),
        ("phone", "price", None, None, 1, 0.0),
        ("phone", "screen", 1, 1.0, None, None),
    ],
    "2": [
        ("phone", "battery", 3, 2, 2 / 3, 0.5),
        ("phone", "price", 1, None, 0.0, None),
        ("phone", "screen", 1, None, 0.0, None),
    ],
    "3": [("c1", 12_000, 0.5, 1 / 3, 0.25)],
    "4": [
        (START.date(), "call", 5, 3, 2, 1, 1, 1, 200, 0.6),
        (START.date(), "review", 6, 6, 0, 0, 0, 2, 0, 1.0),
    ],
    "6": [
        ("reviewer", "invalid_utf8", 2, 0, later(hours=1), later(hours=1)),
        ("segmenter", "unsupported_codec", 1, 0, later(hours=1), later(hours=1)),
    ],
    "8": [
        (
            "c1",
            START,
            "analysed",
            "It is broken",
            "A new one is sent",
            "issue",
            ["My phone's batteries broke, the battery is broken"],
        ),
        (
            "c1",
            START,
            "analysed",
            "It is broken",
            "A new one is sent",
            "outcome",
            ["We will send you a new one", "Thank you, the screen is great"],
        ),
        ("c2", later(minutes=5), "no_speech", None, None, None, [None]),
    ],
    "9": [
        (later(days=-7).date(), 2, 2, 0.0, -0.8109, 0.8109),
        (START.date(), 2, 2, 0.0, -0.8109, 0.8109),
    ],
    "10": [
        ("phone", "battery", 1, 1, 3, 0),
        ("phone", "price", 0, 0, 1, 0),
        ("phone", "screen", 0, 0, 1, 1),
    ],
}


@pytest_asyncio.fixture
async def analyst(conn: AsyncConnection) -> AsyncIterator[AsyncConnection]:
    await seed(conn)
    await conn.execute(sa.text("SET LOCAL ROLE earful_analyst"))
    yield conn


async def ask(conn: AsyncConnection, number: str) -> list[tuple[object, ...]]:
    query = dict(QUERIES)[number]
    rows = await conn.execution_options(no_parameters=True)
    result = await rows.exec_driver_sql(query.rstrip().rstrip(";"))
    return [tuple(float(v) if isinstance(v, Decimal) else v for v in r) for r in result]


def test_there_are_ten() -> None:
    assert [n for n, _ in QUERIES] == [str(n) for n in range(1, 11)]


@pytest.mark.parametrize("number", ANSWERS)
async def test_the_answer_is_the_known_one(analyst: AsyncConnection, number: str) -> None:
    found = await ask(analyst, number)
    assert len(found) == len(ANSWERS[number])
    for row, expected in zip(found, ANSWERS[number], strict=True):
        for value, wanted in zip(row, expected, strict=True):
            assert value == (pytest.approx(wanted, abs=1e-4) if isinstance(wanted, float) else wanted), (row, expected)


async def test_freshness(analyst: AsyncConnection) -> None:
    """Of the utterances; the other kinds carry the clock of this test."""
    found = [r for r in await ask(analyst, "5") if r[1] == "utterance"]
    assert found == [(START.replace(minute=0), "utterance", 3, 2000, 8300, 9000)]


async def test_search_finds_stems_and_obeys_minus(analyst: AsyncConnection) -> None:
    [row] = await ask(analyst, "7")
    assert row[:3] == ("c1", "customer", 0)
    assert isinstance(row[4], float)
    assert row[4] > 0


async def test_the_page_names_every_view_and_column_with_its_comment(analyst: AsyncConnection) -> None:
    rows = await analyst.execute(
        sa.text(
            "SELECT c.relname, a.attname, col_description(c.oid, a.attnum), obj_description(c.oid) FROM pg_class c"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
            " WHERE c.relnamespace = CAST('analytics_v1' AS regnamespace)"
        )
    )
    sections = {m[1]: m[2] for m in re.finditer(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)}
    for view, column, comment, grain in rows:
        assert grain.startswith("Grain: "), view
        assert grain in sections[view]
        assert comment, f"{view}.{column} has no comment"
        if not view.endswith("_by_run"):
            assert f"| `{column}` | {comment} |" in sections[view]
