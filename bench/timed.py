"""`python -m bench.timed segmenter`: the worker as it is, except that the time inside the voice detector is counted.

The file that BENCH_VAD_SECONDS names, one float64, always holds the CPU seconds of the detector so far.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np

from settings import load
from speech.vad import SileroVad
from workers.log import configure
from workers.process import run_worker


def count_steps(spent: np.memmap[Any, np.dtype[np.float64]]) -> None:
    """From now on each step of the detector adds its CPU seconds to `spent[0]`."""
    step = SileroVad.step

    def timed_step(self: SileroVad, windows: Any, h: Any, c: Any) -> Any:
        begun = time.thread_time()
        try:
            return step(self, windows, h, c)
        finally:
            spent[0] += time.thread_time() - begun

    SileroVad.step = timed_step  # type: ignore[method-assign]


if __name__ == "__main__":
    count_steps(np.memmap(os.environ["BENCH_VAD_SECONDS"], dtype=np.float64, shape=(1,)))
    settings = load()
    configure(settings.log_level)
    sys.exit(run_worker(sys.argv[1], settings))
