"""What a campaign of fault tests found: docs/results/chaos.json, one object a test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from settings import PROJECT
from tests.faults.oracle import Findings

__all__ = ["NAMES", "RESULTS", "Figures", "keep", "read"]

RESULTS = PROJECT / "docs" / "results" / "chaos.json"

#: The tests by number.
NAMES: Mapping[int, str] = {
    1: "SIGKILL storm",
    2: "head in flight",
    3: "death between each pair of the seven steps, and inside COMMIT",
    4: "workers come and go",
    5: "Kafka away",
    6: "zombie",
    7: "network",
    8: "Postgres away, cut off, locked, without connections",
    9: "Triton ill",
    10: "poison",
    11: "dead letters that cannot be written",
    12: "everything again",
    13: "ten times the arrival rate",
    14: "soak",
    15: "SIGTERM under load",
    16: "migration under load",
    17: "clocks and calendars",
    18: "audio fuzz",
    19: "bombs",
    20: "least privilege",
    21: "canary strings",
    22: "properties",
}


class Figures:
    """What one test reports of itself; kept with its result."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def note(self, **values: object) -> None:
        """`load`, `faults` and `seed` say what was done, anything else what was seen."""
        self.values |= values

    def oracle(self, found: Findings) -> None:
        self.note(**{name: len(getattr(found, name)) for name in ("missing", "extra", "duplicate", "wrong")})


def read() -> dict[str, dict[str, Any]]:
    """Results by the test's node."""
    if not RESULTS.exists():
        return {}
    return {one["node"]: one for one in json.loads(RESULTS.read_text())["tests"]}


def keep(result: Mapping[str, Any]) -> None:
    """Add a result, or put it in the place of the same test's last one."""
    found = read() | {str(result["node"]): dict(result)}
    ordered = sorted(found.values(), key=lambda one: (one["test"], one["form"] != "short", one["node"]))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps({"tests": ordered}, indent=1, ensure_ascii=False) + "\n")
    new.replace(RESULTS)
