"""docs/phi4.md: what is calculated there is what the code calculates, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

from speech.phi4.memory import table

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "phi4.md").read_text("utf-8")


def test_the_memory_table_is_calculated() -> None:
    written = PAGE.partition("<!-- memory -->\n")[2].partition("\n<!-- /memory -->")[0]
    assert written == table(), 'python -c "from speech.phi4.memory import table; print(table())"'


def test_every_parameter_of_the_configuration_is_explained() -> None:
    config = (ROOT / "model_repo" / "phi4" / "config.pbtxt").read_text()
    section = PAGE.partition("## Settings")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == re.findall(r'key: "(\w+)"', config)


def test_the_files_it_names_exist() -> None:
    named = re.findall(r"(?:tests|speech|model_repo|docker|requirements)/[\w/.-]+\.\w+", PAGE)
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_readme_and_page_say_that_the_weights_were_never_run() -> None:
    assert "published weights were never run" in (ROOT / "README.md").read_text("utf-8")
    assert "published weights were never run" in PAGE
    assert PAGE.count("| not measured |") >= 6
