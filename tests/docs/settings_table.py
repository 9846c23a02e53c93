"""The table of docs/own-servers.md, made from settings.py. `python -m tests.docs.settings_table` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from settings import PREFIX, PROJECT, Settings

__all__ = ["PAGE", "table", "written"]

PAGE = PROJECT / "docs" / "own-servers.md"
BEGIN, END = "a test compares it -->\n", "<!-- /settings -->"


def table() -> str:
    """One row a setting, in the order of settings.py; a default None is left empty, a secret's shown as it is."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        assert default is not PydanticUndefined, name
        shown = (
            "" if default in (None, "", {}) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        )
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        meaning = (field.description or "") + (f" ({', '.join(choices)})" if choices else "")
        rows.append(f"| `{PREFIX}{name.upper()}` | {shown} | {meaning} |")
    return "\n".join(rows) + "\n"


def written(page: Path = PAGE) -> str:
    """The table as the page has it."""
    text = page.read_text("utf-8")
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text("utf-8").replace(BEGIN + written() + END, BEGIN + table() + END), "utf-8")
