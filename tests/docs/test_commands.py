"""Every command that README.md and docs/*.md show exists, with the options shown: earful, make, python -m, sh; and settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main

from cli import app
from settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
_OPTION = re.compile(r"(?<!\S)(--?[a-z][a-z-]*)")
_BLOCK = re.compile(r"(?<=\n\n)(?: {4}\S.*\n)+")
_BEFORE = re.compile(r"^(?:[A-Z_0-9]+=\S* )*(?:\.venv[a-z-]*/bin/)?")  # variables, and which environment


def shown(page: Path) -> Iterator[str]:
    """What a page shows as code: in backticks, and in indented lines (without their comment, continuations joined)."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL).replace("\\\n", " ")
    for block in _BLOCK.findall(text):
        for line in block.splitlines():
            yield from re.split(r"\s&&\s", re.sub(r"\s+#\s.*$", "", line.strip()))
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", _BLOCK.sub("", text)))


def commands(program: str) -> list[str]:
    found = {
        f"{page.name}: {line[len(program) :].strip()}"
        for page in PAGES
        for code in shown(page)
        if (line := _BEFORE.sub("", code)).startswith(f"{program} ")
    }
    return sorted(found)


@pytest.mark.parametrize("line", commands("earful"))
def test_commands_of_earful_exist(line: str) -> None:
    rest = line.partition(": ")[2]
    command = typer.main.get_command(app)
    for word in rest.split():
        group = getattr(command, "commands", None)
        if group is None or word in ("--help", "..."):
            break
        assert word in group, rest
        command = group[word]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert set(_OPTION.findall(re.sub(r'"[^"]*"', '""', rest))) <= options


@pytest.mark.parametrize("line", commands("python -m"))
def test_modules_exist_and_take_the_options(line: str) -> None:
    module, *rest = shlex.split(line.partition(": ")[2])
    if module == "pytest":
        assert [path for path in rest if path.startswith("tests/") and not (ROOT / path).exists()] == []
        return
    assert find_spec(module) is not None, module
    path = ROOT / module.replace(".", "/")
    source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")
    # What needs torch cannot be asked here: its source is read, and that of the options it shares.
    if "from sentiment.cells import options" in source:
        source += (ROOT / "sentiment" / "cells.py").read_text("utf-8")
    assert [option for option in rest if option.startswith("-") and f'"{option}"' not in source] == []


@pytest.mark.parametrize("line", commands("make"))
def test_targets_of_make_exist(line: str) -> None:
    words = shlex.split(line.partition(": ")[2])
    for word in words:
        name, given, _ = word.partition("=")
        known = rf"\b{name}\b" if given else rf"^{re.escape(name)}:"
        everything = MAKEFILE + (ROOT / "commands" / "demo.py").read_text("utf-8")  # KEEP is read there
        assert re.search(known, everything, re.MULTILINE), word


@pytest.mark.parametrize("line", commands("sh"))
def test_scripts_exist(line: str) -> None:
    assert (ROOT / line.partition(": ")[2].split()[0]).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_exist(page: Path) -> None:
    named = {name.lower() for name in re.findall(r"EARFUL_([A-Z_]+[A-Z])", page.read_text("utf-8"))}
    assert named - Settings.model_fields.keys() == set()


def test_something_was_looked_at() -> None:
    assert len(commands("earful")) > 60
    assert len(commands("python -m")) > 15
    assert len(commands("make")) > 5
    pages = {line.partition(": ")[0] for line in commands("earful")}
    assert pages >= {"README.md", "operations.md", "own-servers.md", "own-aspects.md", "phi4.md", "cvib.md", "sql.md"}
