"""docs/operations.md names only what exists: metrics, log actions, reasons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

import workers.metrics  # noqa: F401 - registers what the page may name

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "operations.md").read_text("utf-8")
MODULES = [
    PROJECT / "errors.py",
    PROJECT / "speech" / "contract.py",
    *(path for folder in ("workers", "stream", "store") for path in (PROJECT / folder).glob("*.py")),
]
CODE = "".join(path.read_text("utf-8") for path in MODULES)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bearful_[a-z_]+", PAGE))))
def test_metrics_exist(name: str) -> None:
    families = {family.name for family in REGISTRY.collect()}
    assert name.removesuffix("_total") in families


@pytest.mark.parametrize("action", sorted(set(re.findall(r"`((?:batch|worker|decoder|relay|reaper)\.[a-z_]+)`", PAGE))))
def test_log_actions_exist(action: str) -> None:
    assert f'"{action}"' in CODE


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([A-Z][a-z]+[A-Z][A-Za-z]+|Fenced)`", PAGE))))
def test_errors_exist(name: str) -> None:
    assert re.search(rf"class {name}\((EarfulError|Transient)\)", CODE)


def test_reasons_exist() -> None:
    table = PAGE[PAGE.index("| reason |") : PAGE.index("## Logs")]
    reasons = {name for name in re.findall(r"`([a-z_]+\*?)`", table) if "_" in name or name == "truncated"}
    assert len(reasons) > 20
    for reason in reasons:
        assert re.search(rf'"{reason.removesuffix("*")}' + ("" if reason.endswith("*") else '"'), CODE), reason
