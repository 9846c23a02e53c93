"""python -m bench [names...] [--quick] [--minutes N] [--percents N...] [--of NAME]: a table, and bench.json in this folder."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.calls import asr, calls
from bench.curves import load
from bench.memory import memory
from bench.padded import padded
from bench.poison import poison
from bench.result import Result, table, write
from bench.reviews import reviews
from bench.rig import REAL, Rig
from bench.segmenter import segmenter
from bench.size import FULL, QUICK, Size
from bench.speech import cutting, windows

__all__ = ["BENCHMARKS", "main"]

Say = Callable[[str], None]
Benchmark = Callable[[Rig, Size, Say], Iterator[Result]]
BENCHMARKS: dict[str, Benchmark] = {
    "reviews": reviews,
    "segmenter": segmenter,
    "calls": calls,
    "asr": asr,
    "padded": padded,
    "poison": poison,
    "memory": memory,
}
#: By name only: it takes as long as half of the others together.
LONG: dict[str, Benchmark] = {"load": load}
#: These need no servers.
ALONE: Mapping[str, tuple[Callable[[Say], Iterator[Result]], ...]] = {"speech": (cutting, windows)}
NAMES = (*ALONE, *BENCHMARKS, *LONG)
FILE = Path("bench.json")
#: Of the table; a narrower screen breaks the lines, and not the words.
WIDTH = 120


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when a target is missed, with the sizes that make figures."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"{', '.join(NAMES)}; default: all but {', '.join(LONG)}"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work? The figures mean nothing")
    parser.add_argument("--minutes", type=float, help="how long `memory` loads the workers (default 4, in full 10)")
    parser.add_argument("--percents", type=int, nargs="+", help="arrival rates of `load`, of capacity; bench-load.json")
    parser.add_argument("--of", choices=FULL.load_of, help="what `load` sends; bench-load.json")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(NAMES)}")
    size = QUICK if chosen.quick else FULL
    if chosen.minutes:
        size = replace(size, memory_minutes=chosen.minutes)
    if chosen.percents or chosen.of:  # a part: not for the drawings
        size = replace(size, load_workers=(), load_file=QUICK.load_file)
    if chosen.percents:
        size = replace(size, load_percents=tuple(chosen.percents))
    if chosen.of:
        size = replace(size, load_of=(chosen.of,))
    screen, progress = Console(width=max(Console().width, WIDTH)), Console(stderr=True)
    begun = time.monotonic()

    def say(line: str) -> None:
        progress.print(f"{time.monotonic() - begun:6.0f} s  {line}", highlight=False)

    if os.getloadavg()[0] > 0.5:
        say(f"other work is running here (load {os.getloadavg()[0]:.1f}): the figures will be too low")
    if not REAL:
        say("the sentiment models' weights are not here: stand-ins are served, and reviews have no baseline")
    results: list[Result] = []
    try:
        for result in run(chosen.names or [*ALONE, *BENCHMARKS], size, say):
            say(f"{result.name}: {result.value:.4g} {result.unit}")
            results.append(result)
    finally:  # what was measured before an error is kept
        screen.print(table(results))
        write(FILE, results)
    return 1 if any(one.met is False for one in results) and not chosen.quick else 0


def run(names: Sequence[str], size: Size, say: Say) -> Iterator[Result]:
    """The servers are started for the first benchmark that needs them."""
    with ExitStack() as resources:
        rig: Rig | None = None
        for name in names:
            if name in ALONE:
                for alone in ALONE[name]:
                    yield from alone(say)
            else:
                rig = rig or resources.enter_context(Rig())
                yield from (BENCHMARKS | LONG)[name](rig, size, say)


if __name__ == "__main__":
    sys.exit(main())
