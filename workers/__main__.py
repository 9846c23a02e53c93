"""`python -m workers STAGE`: one worker process, set by the environment; `earful worker` calls the same."""

from __future__ import annotations

import sys

from settings import load
from workers.log import configure
from workers.process import run_worker

if __name__ == "__main__":
    try:
        settings = load()
    except ValueError as err:
        sys.stderr.write(f"error: {err}\n")
        sys.exit(2)
    configure(settings.log_level)
    sys.exit(run_worker(sys.argv[1], settings))
