"""The drawings that results make."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.plot import Panel, draw, ticks

SVG = "{http://www.w3.org/2000/svg}"


def found() -> dict[str, Any]:
    """Results as `python -m bench load` writes them: three rates and two numbers of workers."""
    delay = {"p50": 150, "p95": 290, "p99": 410}
    arrivals = [{"percent": p, "arrival": 1.4 * p, "throughput": 1.3 * p, "delay_ms": delay} for p in (10, 60, 120)]
    workers = [{"workers": n, "partitions": n, "capacity": 100.0 + n, "delay_ms": delay} for n in (1, 2)]
    one = {"capacity": 140.0, "arrivals": arrivals, "workers": workers}
    return {"reviews": {"unit": "reviews", **one}, "calls": {"unit": "channel-seconds", **one}}


def test_each_drawing_has_four_fields_with_their_units(tmp_path: Path) -> None:
    (tmp_path / "load.json").write_text(json.dumps(found()))
    draw(tmp_path / "load.json", tmp_path)
    arrival, workers = (ET.parse(tmp_path / f"load-{name}.svg").getroot() for name in ("arrival", "workers"))
    for drawing in (arrival, workers):
        assert len(drawing.findall(f"{SVG}g")) == 4
    said = [element.text for element in arrival.iter(f"{SVG}text")]
    for words in (
        "Reviews: throughput, reviews/s",
        "Calls: delay until the row is there, ms",
        "arrival rate, % of capacity (140 channel-seconds/s)",
    ):
        assert words in said


@pytest.mark.parametrize("logarithmic", [False, True])
def test_every_point_lies_in_its_field(logarithmic: bool) -> None:
    panel = Panel(
        title="t",
        x_label="x",
        x=[3, 70, 123],
        lines={"a": [100, 250, 4_999], "b": [130, 251, 40_000]},
        logarithmic=logarithmic,
    )
    points = ET.fromstring(f"<g>{panel.svg()}</g>").findall("circle")
    assert len(points) == 6
    assert all(62 <= float(one.attrib["cx"]) <= 414 for one in points)
    assert all(46 <= float(one.attrib["cy"]) <= 214 for one in points)


def test_names_at_the_same_height_do_not_lie_over_each_other() -> None:
    panel = Panel(title="t", x_label="x", x=[1, 2], lines={"c": [5, 9], "b": [6, 9], "a": [7, 9]})
    names = [one for one in ET.fromstring(f"<g>{panel.svg()}</g>").findall("text") if one.text in set("abc")]
    heights = sorted(float(one.attrib["y"]) for one in names)
    assert [one.text for one in sorted(names, key=lambda one: float(one.attrib["y"]))] == ["a", "b", "c"]
    assert [round(b - a) for a, b in pairwise(heights)] == [14, 14]


def test_ticks_are_round_and_reach_the_highest() -> None:
    assert ticks(0, 150) == [0, 50, 100, 150]
    assert ticks(0, 120) == [0, 20, 40, 60, 80, 100, 120]
    for high in (0.9, 61, 123, 5_001):
        marks = ticks(0, high)
        assert 3 <= len(marks) <= 7
        assert marks[-1] >= high > marks[-2]
