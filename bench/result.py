"""Figures, the table on the screen, and bench.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Column, Table

__all__ = ["Result", "percentile", "slope", "table", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One figure. `baseline` has the same unit; `target` is what the project asks for.

    `ratio` is value / baseline, or for a cost, of which less is better, baseline / value.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    target: str = ""
    met: bool | None = None
    cost: bool = False

    @property
    def ratio(self) -> float | None:
        if not self.baseline or not self.value:
            return None
        return self.baseline / self.value if self.cost else self.value / self.baseline

    def entry(self) -> dict[str, float | str | None]:
        """Its value in bench.json."""
        return {
            "value": rounded(self.value),
            "unit": self.unit,
            "baseline": rounded(self.baseline),
            "ratio": rounded(self.ratio),
        }


def rounded(value: float | None) -> float | None:
    """Four digits that count: no figure here is better than that."""
    return None if value is None else float(f"{value:.4g}")


def table(results: Iterable[Result]) -> Table:
    out = Table(Column("figure", no_wrap=True), "value", "unit", "baseline", "ratio", "target", "", box=None)
    for one in results:
        numbers = [rounded(one.value), rounded(one.baseline), rounded(one.ratio)]
        value, baseline, ratio = ("" if number is None else f"{number:g}" for number in numbers)
        met = {None: "", True: "met", False: "missed"}[one.met]
        out.add_row(one.name, value, one.unit, baseline, ratio, one.target, met)
    return out


def write(path: Path, results: Iterable[Result]) -> None:
    """Figures of this run replace those of the same name; the others in the file stay."""
    found: Mapping[str, object] = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**found, **{one.name: one.entry() for one in results}}, indent=1) + "\n")


def percentile(values: Iterable[float], percent: int) -> float:
    """The nearest rank: a value that occurred. Raises ValueError for no values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def slope(points: Iterable[tuple[float, float]]) -> float:
    """Least squares: y per x. Raises ValueError for fewer than two different x."""
    pairs = list(points)
    n = len(pairs)
    if len({x for x, _ in pairs}) < 2:
        raise ValueError("a slope needs two points")
    mean_x, mean_y = sum(x for x, _ in pairs) / n, sum(y for _, y in pairs) / n
    return sum((x - mean_x) * (y - mean_y) for x, y in pairs) / sum((x - mean_x) ** 2 for x, _ in pairs)
