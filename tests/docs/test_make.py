"""`make test` leaves no test out, and what the Makefile runs is locked."""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_test_that_needs_torch_is_run_where_torch_is() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    listed = re.search(r"^TORCH_TESTS = \$\(wildcard (.+)\)$", makefile, re.MULTILINE)
    assert listed is not None
    run = {path for name in listed[1].split() for path in (ROOT / name, *(ROOT / name).rglob("test_*.py"))}
    skipping = {
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search(r'^(?:torch = )?pytest\.importorskip\(\s*"torch"', path.read_text("utf-8"), re.MULTILINE)
    }
    assert len(skipping) > 10
    assert {str(path.relative_to(ROOT)) for path in skipping - run} == set()


def test_every_program_that_make_runs_comes_from_the_lock() -> None:
    """So that a fresh clone has it. pip comes with the environment, earful is the project."""
    programs = set(re.findall(r"\.venv/bin/([a-z-]+)", (ROOT / "Makefile").read_text("utf-8"))) - {"python", "earful"}
    assert programs >= {"ruff", "mypy", "lint-imports", "uv"}
    locked = set(re.findall(r"^([a-z0-9_.-]+)==", (ROOT / "requirements" / "all.txt").read_text("utf-8"), re.MULTILINE))
    brought = {
        path.name
        for one in distributions()
        if str(one.name).lower().replace("_", "-") in locked
        for path in one.files or ()
        if path.parent.name == "bin"
    }
    assert programs - brought == set()
