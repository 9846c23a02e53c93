"""python -m bench [names...] [--quick] [--minutes N]: a table on the screen, and bench.json in the current folder."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.calls import asr, calls
from bench.memory import memory
from bench.result import Result, table, write
from bench.reviews import reviews
from bench.rig import REAL, Rig
from bench.segmenter import segmenter
from bench.size import FULL, QUICK, Size

__all__ = ["BENCHMARKS", "main"]

Benchmark = Callable[[Rig, Size, Callable[[str], None]], Iterator[Result]]
BENCHMARKS: Mapping[str, Benchmark] = {
    "reviews": reviews,
    "segmenter": segmenter,
    "calls": calls,
    "asr": asr,
    "memory": memory,
}
FILE = Path("bench.json")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when a target is missed, with the sizes that make figures."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work? The figures mean nothing")
    parser.add_argument("--minutes", type=float, help="how long `memory` loads the workers (default 4, in full 10)")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    size = QUICK if chosen.quick else FULL
    if chosen.minutes:
        size = replace(size, memory_minutes=chosen.minutes)
    screen, progress = Console(), Console(stderr=True)
    begun = time.monotonic()

    def say(line: str) -> None:
        progress.print(f"{time.monotonic() - begun:6.0f} s  {line}", highlight=False)

    if os.getloadavg()[0] > 0.5:
        say(f"other work is running here (load {os.getloadavg()[0]:.1f}): the figures will be too low")
    if not REAL:
        say("the sentiment models' weights are not here: stand-ins are served, and reviews have no baseline")
    results: list[Result] = []
    with Rig() as rig:
        for name in chosen.names or BENCHMARKS:
            for result in BENCHMARKS[name](rig, size, say):
                say(f"{result.name}: {result.value:.4g} {result.unit}")
                results.append(result)
    screen.print(table(results))
    write(FILE, results)
    return 1 if any(one.met is False for one in results) and not chosen.quick else 0


if __name__ == "__main__":
    sys.exit(main())
