"""`earful` as somebody types it, in this process: with the settings given and no others."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from cli import app

__all__ = ["Done", "earful"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def sentence(self) -> str:
        """The one line on standard error with which a command fails. Asserts that it is one, and no traceback."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        return lines[0]


def earful(*arguments: str, env: Mapping[str, str] | None = None) -> Done:
    """Run it. An error that no command foresaw is raised as it is."""
    wiped: dict[str, str | None] = {name: None for name in os.environ if name.startswith("EARFUL_")}
    settings = {"EARFUL_HOME": "no-stack-here", "COLUMNS": "200", **(env or {})}
    result = CliRunner().invoke(app, list(arguments), env=wiped | settings, catch_exceptions=False)
    return Done(code=result.exit_code, out=result.stdout, err=result.stderr)
