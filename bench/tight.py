"""The yardstick: a model called in a tight loop, in as many single-threaded processes as Triton has instances.

Processes and not threads, because Triton's are processes too: threads would share one interpreter and be slower.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

__all__ = ["Tight", "tight"]

T = TypeVar("T")
#: Loading a model takes a few seconds.
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tight:
    """What a tight loop took: by the clock, and CPU time of all its processes. The second is the same beside other work."""

    seconds: float
    cpu_seconds: float


def tight(make: Callable[[], Callable[[T], object]], items: Sequence[T], processes: int = 2) -> Tight:
    """From the moment when all are loaded and warm until the last item is done.

    `make` is a module's function, called once a process; what it returns is called once an item.
    """
    context = multiprocessing.get_context("spawn")
    turn: Synchronized[int] = context.Value("i", 0)
    used: Synchronized[float] = context.Value("d", 0.0)
    gate = context.Barrier(processes + 1)
    children = [context.Process(target=loop, args=(make, list(items), turn, used, gate)) for _ in range(processes)]
    for child in children:
        child.start()
    try:
        gate.wait(PATIENCE_SECONDS)
        begun = time.perf_counter()
        gate.wait(PATIENCE_SECONDS + 10 * len(items))
        return Tight(seconds=time.perf_counter() - begun, cpu_seconds=used.value)
    finally:
        for child in children:
            child.join(5)
            child.kill()


def loop(
    make: Callable[[], Callable[[Any], object]],
    items: list[Any],
    turn: Synchronized[int],
    used: Synchronized[float],
    gate: Barrier,
) -> None:
    """Whoever is free takes the next item, as in Triton's queue."""
    try:
        call = make()
        call(items[0])
        gate.wait()
        begun = time.process_time()
        while True:
            with turn.get_lock():
                mine = turn.value
                turn.value += 1
            if mine >= len(items):
                break
            call(items[mine])
        with used.get_lock():
            used.value += time.process_time() - begun
        gate.wait()
    except BaseException:
        gate.abort()
        raise
