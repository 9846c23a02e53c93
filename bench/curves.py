"""`python -m bench load`: throughput and delay against the arrival rate, and against partitions and workers.

Reviews and live calls are sent in real time, at shares of the capacity that the same run has measured on a backlog.
Results go into docs/results/load.json and, by bench/plot.py, into two drawings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import plot
from bench.machine import machine
from bench.result import Result, percentile, rounded
from bench.reviews import LOAD
from bench.rig import Rig
from bench.site import Site
from bench.size import FULL, Size
from bench.sources import LiveCalls, Reviews, Source
from settings import PROJECT

__all__ = ["load"]

Say = Callable[[str], None]
PERCENTILES = (50, 95, 99)
#: Seconds before a window, and how much a first backlog has of the one that counts.
WARM_SECONDS = {"reviews": 4.0, "calls": 10.0}
WARM_PART = 6
TRIES = 3


def load(rig: Rig, size: Size, say: Say) -> Iterator[Result]:
    """What was measured before an error is kept in the file."""
    found: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "load_average_before": os.getloadavg()[0],
        "window_seconds": size.load_seconds,
    }
    file = PROJECT / size.load_file if size is FULL else Path(size.load_file)
    sources: tuple[tuple[Source, int], ...] = (
        (Reviews(), size.load_reviews),
        (LiveCalls(lines=size.load_lines), size.load_calls),
    )
    for source, number in sources:
        if source.name not in size.load_of:
            continue
        points: list[dict[str, Any]] = []
        scales: list[dict[str, Any]] = []
        found[source.name] = {"unit": source.unit, "arrivals": points, "workers": scales}
        with rig.site(source.name) as site:
            capacity = ready(site, source, 1, number, size, say)
            found[source.name]["capacity"] = rounded(capacity)
            found["models"] = versions(site)
            yield Result(name=f"load_{source.name}_capacity", value=capacity, unit=f"{source.unit}/s")
            for percent in size.load_percents:
                points.append({"percent": percent} | at_rate(site, source, percent / 100 * capacity, size, say))
                keep(file, found)
                yield point(f"load_{source.name}_at_{percent}", source, points[-1])
        for workers in size.load_workers:
            with rig.site(source.name, partitions=workers) as site:
                capacity = ready(site, source, workers, number, size, say)
                flowing = at_rate(site, source, LOAD * capacity, size, say)
            scales.append({"workers": workers, "partitions": workers, "capacity": rounded(capacity)} | flowing)
            keep(file, found)
            yield Result(name=f"load_{source.name}_by_{workers}", value=capacity, unit=f"{source.unit}/s")
    if size is FULL:
        plot.draw(file)


def ready(site: Site, source: Source, workers: int, number: int, size: Size, say: Say) -> float:
    """Start so many workers a stage, warm them up, and measure what they carry: units a second."""
    say(f"{source.name}: workers a stage {workers}, partitions {site.settings.partitions}")
    source.start(site, workers)
    for _ in range(TRIES):
        source.backlog(site, -(-number // WARM_PART), size.patience_seconds, say)
        for stage in source.stages:
            site.wait_shared(stage, workers)
        before = site.restarts
        done = source.backlog(site, number, size.patience_seconds, say)
        if site.restarts == before:
            return done.rate
        say("a worker was started again meanwhile: once more")
    raise RuntimeError(f"{TRIES} times a worker of {source.name} was started again")


def at_rate(site: Site, source: Source, rate: float, size: Size, say: Say) -> dict[str, Any]:
    """One point: rates are units a second, delays ms. `behind` are records not done when sending stopped."""
    flow = source.flow(site, rate, WARM_SECONDS[source.name], size.load_seconds)
    stopped = datetime.now(UTC)
    behind = {stage: site.behind(stage) for stage in source.stages}
    source.settle(site, size.patience_seconds)
    level_after = (datetime.now(UTC) - stopped).total_seconds()
    delays, throughput = source.delays(site, flow, size.patience_seconds), source.throughput(site, flow)
    measured = {f"p{percent}": rounded(percentile(delays, percent)) for percent in PERCENTILES}
    say(f"{flow.arrival:.1f} {source.unit}/s come, {throughput:.1f} go; ms {measured}; level after {level_after:.1f} s")
    return {
        "arrival": rounded(flow.arrival),
        "throughput": rounded(throughput),
        "rows": len(delays),
        "delay_ms": measured,
        "behind": behind,
        "level_after_seconds": rounded(level_after),
        "latest_record_ms": rounded(flow.late_ms),
        "restarts": site.restarts,
        "load_average": os.getloadavg()[0],
    }


def versions(site: Site) -> dict[str, str]:
    """Of the models that are served, by name."""
    spec = site.one("SELECT spec FROM ingest.runs")
    return {name: spec[name]["version"] for name in ("speech", "aspects", "cvib")}


def point(name: str, source: Source, measured: dict[str, Any]) -> Result:
    """Throughput over arrival."""
    return Result(
        name=name,
        value=measured["throughput"],
        unit=f"{source.unit}/s, p95 {measured['delay_ms']['p95']:g} ms",
        baseline=measured["arrival"],
    )


def keep(file: Path, found: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")
