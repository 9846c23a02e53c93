"""Where CPU time goes: by process, and how much of it is not the models'."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from bench.result import Result
from bench.rig import SENTIMENT, SPEECH
from bench.site import Site

__all__ = ["DETECTOR", "cpu", "detector_seconds", "spent", "start_segmenter"]

DETECTOR = "detector"
#: What is a model: Triton's processes that run one, and the voice detector inside the segmenter.
MODELS = frozenset({SPEECH, *SENTIMENT, DETECTOR})
#: Of all CPU at capacity, at most so many per cent may be anything else's; and where the models take next to nothing.
MOST, MOST_FAST, FAST_MS = 15, 30, 1.0


def spent(site: Site, before: Mapping[str, float], say: Callable[[str], None]) -> dict[str, float]:
    """CPU seconds of each server, each model and this site's workers since `before` (Rig.cpu_seconds), by name or stage."""
    parts: dict[str, float] = {}
    for unit, seconds in sorted(site.rig.cpu_seconds().items()):
        owner, _, name = unit.rpartition("-")
        if owner in ("", "triton", site.name) and seconds > before.get(unit, 0.0):
            parts[name] = seconds - before.get(unit, 0.0)
    say("CPU seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items()))
    return parts


def cpu(
    name: str, parts: Mapping[str, float], count: float, *, models: float | None = None, capacity: bool = False
) -> Iterator[Result]:
    """CPU time for one of `count`: of each part, of all, and the share of all that is not the models'.

    `models`: CPU seconds of the models alone, in a tight loop; the ratio to them is what the throughput's would be if no
    core ever waited. The share counts Triton's processes as they are, so it leaves out what serving costs inside them.
    Other work on the machine hardly changes either. `capacity`: the share has a target.
    """
    for part, seconds in parts.items():
        yield Result(name=f"{name}_cpu_{part}", value=1000 * seconds / count, unit="CPU-ms")
    total = sum(parts.values())
    yield Result(
        name=f"{name}_cpu",
        value=1000 * total / count,
        unit="CPU-ms",
        baseline=None if models is None else 1000 * models / count,
        cost=True,
    )
    inference = sum(seconds for part, seconds in parts.items() if part in MODELS)
    share = 100 * (1 - inference / total)
    most = MOST_FAST if 1000 * inference / count < FAST_MS else MOST
    yield Result(
        name=f"{name}_cpu_but_models",
        value=share,
        unit="% of all CPU",
        target=f"at most {most}" if capacity else "",
        met=share <= most if capacity else None,
    )


def start_segmenter(site: Site) -> None:
    """With its detector's time counted (bench/timed.py)."""
    file = counter(site)
    np.zeros(1).tofile(file)
    site.start("segmenter", module="bench.timed", env={"BENCH_VAD_SECONDS": str(file)})


def detector_seconds(site: Site) -> float:
    """CPU seconds inside the detector, so far."""
    return float(np.fromfile(counter(site))[0])


def counter(site: Site) -> Path:
    return site.rig.stack.home / f"{site.name}.vad_seconds"
