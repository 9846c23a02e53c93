"""The yardstick: a model called in a tight loop, in as many single-threaded processes as Triton has instances.

Processes and not threads, because Triton's are processes too: threads would share one interpreter and be slower.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

__all__ = ["tight"]

T = TypeVar("T")
#: Loading a model takes a few seconds.
PATIENCE_SECONDS = 120.0


def tight(make: Callable[[], Callable[[T], object]], items: Sequence[T], processes: int = 2) -> float:
    """Seconds from the moment when all are loaded and warm until the last item is done.

    `make` is a module's function, called once a process; what it returns is called once an item.
    """
    context = multiprocessing.get_context("spawn")
    turn: Synchronized[int] = context.Value("i", 0)
    gate = context.Barrier(processes + 1)
    children = [context.Process(target=loop, args=(make, list(items), turn, gate)) for _ in range(processes)]
    for child in children:
        child.start()
    try:
        gate.wait(PATIENCE_SECONDS)
        begun = time.perf_counter()
        gate.wait(PATIENCE_SECONDS + 10 * len(items))
        return time.perf_counter() - begun
    finally:
        for child in children:
            child.join(5)
            child.kill()


def loop(make: Callable[[], Callable[[Any], object]], items: list[Any], turn: Synchronized[int], gate: Barrier) -> None:
    """Whoever is free takes the next item, as in Triton's queue."""
    try:
        call = make()
        call(items[0])
        gate.wait()
        while True:
            with turn.get_lock():
                mine = turn.value
                turn.value += 1
            if mine >= len(items):
                break
            call(items[mine])
        gate.wait()
    except BaseException:
        gate.abort()
        raise
