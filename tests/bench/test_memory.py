"""The load under which memory is looked at."""

from __future__ import annotations

import threading

import pytest

from bench.memory import under_load


def test_an_error_of_a_load_ends_the_benchmark_at_once() -> None:
    looked: list[float] = []
    ended = threading.Event()

    def broken() -> None:
        raise OSError("no broker")

    try:
        with pytest.raises(OSError, match="no broker"):
            under_load([broken, lambda: bool(ended.wait(60))], looked.append, 30.0)  # type: ignore[list-item]
    finally:
        ended.set()
    assert looked


def test_an_error_at_the_very_end_counts_too() -> None:
    over = threading.Event()

    def broken() -> None:
        over.wait(60)
        raise OSError("not delivered")

    def look(now: float) -> None:
        over.set()

    with pytest.raises(OSError, match="not delivered"):
        under_load([broken], look, 0.1)
