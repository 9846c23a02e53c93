"""What all commands share: tables and JSON of which nothing is lost."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from rich.console import Console

from commands import context
from errors import AccessRefused, EarfulError, Transient
from settings import Settings
from workers.kafka import NoTopic

ROWS = [[str(uuid4()), "p.calls.utterances.v1", "0", "1234", "unsupported_rate", "call-" + "x" * 50] for _ in range(2)]
COLUMNS = ("id", "topic", "part", "offset", "reason", "subject")


def printed(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> list[str]:
    file = io.StringIO()
    monkeypatch.setattr(context, "console", Console(file=file, width=80, force_terminal=terminal, color_system=None))
    context.print_table(COLUMNS, ROWS, whole="id")
    return file.getvalue().splitlines()


def test_a_pipe_gets_every_cell_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line.split() for line in printed(monkeypatch, terminal=False)] == [list(COLUMNS), *ROWS]


def test_a_terminal_folds_all_but_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, terminal=True)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert (ROWS[0][0] in text, ROWS[1][0] in text, text.count("x"), "…" in text) == (True, True, 100, False)


def test_what_an_error_quotes_cannot_forge_what_a_terminal_shows(capsys: pytest.CaptureFixture[str]) -> None:
    context.tell_error("no call \x1b[2J\x9b[31m:\n[b]LINE 1")
    assert capsys.readouterr().err == "error: no call  [2J [31m:\n[b]LINE 1\n"


def test_json_has_numbers_nulls_and_rfc_3339(capsys: pytest.CaptureFixture[str]) -> None:
    values = [
        Decimal("2"),
        Decimal("0.25"),
        Decimal("NaN"),
        Decimal("-Infinity"),
        float("nan"),
        float("inf"),
        1.5,
        None,
    ]
    context.print_json({"values": values, "at": datetime(2026, 5, 4, 10, 30, tzinfo=UTC), "n": Decimal(10**20)})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    told = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert told == {
        "values": [2, 0.25, None, None, None, None, 1.5, None],
        "at": "2026-05-04T10:30:00+00:00",
        "n": 10**20,
    }


@pytest.mark.parametrize(("error", "code"), [(Transient, 3), (NoTopic, 1), (AccessRefused, 1)])
def test_a_kafka_that_tells_no_topics_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, error: type[EarfulError], code: int
) -> None:
    monkeypatch.setattr(context, "check_access", AsyncMock())
    monkeypatch.setattr(context, "topic_ids", AsyncMock(side_effect=error("why")))
    with pytest.raises(context.Failed) as ended:
        context.require_kafka(Settings(), "t")
    assert ended.value.exit_code == code
