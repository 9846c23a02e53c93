"""The arithmetic of the benchmarks, and the file they write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.result import Result, percentile, slope, write


def test_the_file_holds_value_unit_baseline_and_ratio(tmp_path: Path) -> None:
    write(tmp_path / "bench.json", [Result(name="reviews", value=85.0, unit="1/s", baseline=100.0)])
    assert json.loads((tmp_path / "bench.json").read_text()) == {
        "reviews": {"value": 85.0, "unit": "1/s", "baseline": 100.0, "ratio": 0.85}
    }


def test_a_second_run_replaces_its_own_figures_only(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    write(file, [Result(name="a", value=1, unit="s"), Result(name="b", value=2, unit="s")])
    write(file, [Result(name="b", value=3, unit="s")])
    assert {name: entry["value"] for name, entry in json.loads(file.read_text()).items()} == {"a": 1, "b": 3}


def test_without_a_baseline_there_is_no_ratio() -> None:
    assert Result(name="delay", value=5.0, unit="ms").entry()["ratio"] is None


def test_of_a_cost_less_is_better() -> None:
    assert Result(name="cpu", value=10.0, unit="CPU-ms", baseline=8.0, cost=True).ratio == pytest.approx(0.8)


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (50, 51.0), (95, 96.0), (100, 100.0)])
def test_a_percentile_is_a_value_that_occurred(percent: int, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_the_slope_of_a_line_with_noise_that_cancels() -> None:
    assert slope([(x, 3.0 * x + 7 + (-1) ** x) for x in range(100)]) == pytest.approx(3.0, abs=0.01)


def test_a_slope_needs_two_points() -> None:
    with pytest.raises(ValueError, match="two points"):
        slope([(1.0, 2.0), (1.0, 3.0)])
