"""`python -m bench.timed segmenter`: the worker as it is, except that the time inside the voice detector is counted.

At its end it writes the CPU seconds of the detector to the file that BENCH_VAD_SECONDS names.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from settings import load
from speech.vad import SileroVad
from workers.log import configure
from workers.process import run_worker

spent = 0.0
step = SileroVad.step


def timed_step(self: SileroVad, windows: Any, h: Any, c: Any) -> Any:
    global spent
    begun = time.thread_time()
    try:
        return step(self, windows, h, c)
    finally:
        spent += time.thread_time() - begun


if __name__ == "__main__":
    SileroVad.step = timed_step  # type: ignore[method-assign]
    settings = load()
    configure(settings.log_level)
    code = run_worker(sys.argv[1], settings)
    Path(os.environ["BENCH_VAD_SECONDS"]).write_text(str(spent))
    sys.exit(code)
