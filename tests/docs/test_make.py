"""`make test` leaves no test out: what skips itself without torch is what the Makefile runs in .venv-torch."""

from __future__ import annotations

import re
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
