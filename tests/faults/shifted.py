"""A worker whose clock is wrong: `python -m tests.faults.shifted STAGE`, by FAULT_CLOCK seconds.

The time of day only, before anything else is imported; monotonic clocks go on as they do when somebody sets a clock.
"""

from __future__ import annotations

import datetime
import os
import runpy
import time
from types import SimpleNamespace

SECONDS = float(os.environ["FAULT_CLOCK"])
_time, _time_ns = time.time, time.time_ns


class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Shifted:
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Shifted:
        return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)


if __name__ == "__main__":
    import grpc.aio._utils as grpc_utils

    time.time = lambda: _time() + SECONDS
    time.time_ns = lambda: _time_ns() + int(SECONDS * 1e9)
    datetime.datetime = Shifted  # type: ignore[misc]
    # gRPC's C half reads the clock by itself, unshifted; the half that reckons its deadlines must see the same.
    grpc_utils.time = SimpleNamespace(time=_time)
    runpy.run_module("workers", run_name="__main__", alter_sys=False)
