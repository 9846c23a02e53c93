"""`python -m bench.plot [load.json]`: docs/load-arrival.svg and docs/load-workers.svg from what `python -m bench load` wrote.

Written by hand: a plotting library would bring some 60 MB for two drawings, and its SVG knows no dark pages.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from settings import PROJECT

__all__ = ["Panel", "draw", "drawing", "panels_by_arrival", "panels_by_workers", "ticks"]

DOCS = PROJECT / "docs"
RESULTS = DOCS / "results" / "load.json"
#: Of a panel, in pixels: all of it, and what is left beside its field for ticks and names.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 470, 260, 62, 56, 46, 46
LINE_PX = 14  # of text
STYLE = """
.ground,.dot{fill:#fff} text{fill:#1f2328;font:12px system-ui,sans-serif} .title{font-weight:600} .grid{stroke:#d1d9e0}
.line{fill:none} .line,.dot{stroke-width:2} .s0{stroke:#218bff} .s1{stroke:#0550ae} .s2{stroke:#00142e}
.all{stroke:#818b98;stroke-dasharray:5 4}
@media (prefers-color-scheme:dark){.ground,.dot{fill:#0d1117} text{fill:#f0f6fc} .grid{stroke:#3d444d}
.s0{stroke:#388bfd} .s1{stroke:#79c0ff} .s2{stroke:#ddf4ff} .all{stroke:#9198a1}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One field: lines by name over the same x. `steps` gives every x a tick with this name, evenly spaced."""

    title: str
    x_label: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    dashed: frozenset[str] = frozenset()
    steps: Sequence[str] = ()
    logarithmic: bool = False

    def svg(self) -> str:
        """Its elements, the top left corner at 0, 0."""
        values = [y for line in self.lines.values() for y in line]
        x_ticks = list(range(len(self.steps))) if self.steps else ticks(0, max(self.x))
        xs: Sequence[float] = x_ticks if self.steps else self.x
        y_ticks = decades(min(values), max(values)) if self.logarithmic else ticks(0, max(values))
        left, right = (-0.4, len(self.steps) - 0.6) if self.steps else (0, max(x_ticks[-1], *self.x))
        of_y = math.log if self.logarithmic else float
        low, high = of_y(y_ticks[0]), of_y(max(y_ticks[-1], *values))

        def at(x: float, y: float) -> tuple[float, float]:
            across, up = (x - left) / (right - left), (of_y(y) - low) / (high - low)
            return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

        out = [text(LEFT, 24, self.title, "title")]
        for tick in y_ticks:
            _, y = at(left, tick)
            out.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            out.append(text(LEFT - 6, y + 4, f"{tick:,g}", anchor="end"))
        for number, tick in enumerate(x_ticks):
            name = self.steps[number] if self.steps else f"{tick:g}"
            out.append(text(at(tick, y_ticks[0])[0], HEIGHT - BOTTOM + 18, name, anchor="middle"))
        out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, self.x_label, anchor="middle"))
        names: list[tuple[float, float, str]] = []
        for number, (name, line) in enumerate(self.lines.items()):
            points = [at(x, y) for x, y in zip(xs, line, strict=True)]
            style = "all" if name in self.dashed else f"s{number}"
            out.append(f'<path class="line {style}" d="M{" ".join(f"{x:.1f} {y:.1f}" for x, y in points)}"/>')
            if name not in self.dashed:
                out += [f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
            names.append((points[-1][1], points[-1][0], name))
        lowest = math.inf
        for y, x, name in sorted(names, key=lambda one: -one[0]):  # from below, so that none lies over another
            lowest = min(y + 4, lowest - LINE_PX)
            out.append(text(x + 8, lowest, name))
        return "\n".join(out)


def ticks(low: float, high: float) -> list[float]:
    """At most seven round numbers from `low`, the last one the first that is not below `high`."""
    step = 10 ** math.floor(math.log10((high - low) / 6))
    step *= next(times for times in (1, 2, 5, 10) if low + 6 * times * step >= high)
    return [low + number * step for number in range(math.ceil((high - low) / step - 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """1, 2 or 5 times a power of ten, from the last one below `low` to the first above `high`."""
    found = [times * 10.0**power for power in range(-3, 9) for times in (1, 2, 5)]
    first = max(number for number, value in enumerate(found) if value <= low)
    last = min(number for number, value in enumerate(found) if value >= high)
    return found[first : max(last, first + 1) + 1]


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{words}</text>'


def panels_by_arrival(found: Mapping[str, Any]) -> list[Panel]:
    """Throughput and delay of reviews, then of calls, over the arrival rate."""
    out = []
    for name in ("reviews", "calls"):
        one, points = found[name], found[name]["arrivals"]
        share = [100 * point["arrival"] / one["capacity"] for point in points]
        x_label = f"arrival rate, % of capacity ({one['capacity']:.0f} {one['unit']}/s)"
        out.append(
            Panel(
                title=f"{name.capitalize()}: throughput, {one['unit']}/s",
                x_label=x_label,
                x=share,
                lines={
                    "written": [point["throughput"] for point in points],
                    "arrives": [point["arrival"] for point in points],
                },
                dashed=frozenset({"arrives"}),
            )
        )
        out.append(
            Panel(
                title=f"{name.capitalize()}: delay until the row is there, ms",
                x_label=x_label,
                x=share,
                lines=delays(points),
                logarithmic=True,
            )
        )
    return out


def panels_by_workers(found: Mapping[str, Any]) -> list[Panel]:
    """Capacity, and delay at 60 % of it, of reviews, then of calls, over workers and partitions."""
    out = []
    for name in ("reviews", "calls"):
        one, points = found[name], found[name]["workers"]
        steps = [str(point["workers"]) for point in points]
        x_label = "workers a stage, and as many partitions"
        for title, lines, logarithmic in (
            (f"capacity, {one['unit']}/s", {"": [point["capacity"] for point in points]}, False),
            ("delay at 60 % of it, ms", delays(points), True),
        ):
            out.append(
                Panel(
                    title=f"{name.capitalize()}: {title}",
                    x_label=x_label,
                    x=(),
                    lines=lines,
                    steps=steps,
                    logarithmic=logarithmic,
                )
            )
    return out


def delays(points: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    points = list(points)
    return {name: [point["delay_ms"][name] for point in points] for name in ("p50", "p95", "p99")}


def drawing(panels: Sequence[Panel], title: str) -> str:
    """Two panels a row."""
    width, height = 2 * WIDTH, -(-len(panels) // 2) * HEIGHT
    fields = "\n".join(
        f'<g transform="translate({number % 2 * WIDTH} {number // 2 * HEIGHT})">\n{panel.svg()}\n</g>'
        for number, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title">\n'
        f'<title id="title">{title}</title>\n<style>{STYLE}</style>\n'
        f'<rect class="ground" width="{width}" height="{height}"/>\n{fields}\n</svg>\n'
    )


def draw(results: Path = RESULTS, folder: Path = DOCS) -> None:
    """Both drawings."""
    found = json.loads(results.read_text())
    arrival = drawing(panels_by_arrival(found), "Throughput and delay against the arrival rate")
    workers = drawing(panels_by_workers(found), "Capacity and delay against workers and partitions")
    (folder / "load-arrival.svg").write_text(arrival)
    (folder / "load-workers.svg").write_text(workers)


if __name__ == "__main__":
    draw(*map(Path, sys.argv[1:3]))
