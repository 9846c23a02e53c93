"""`earful worker all`: its children end with it, also when nobody can tell them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from tests.workers.pipeline import PROJECT
from workers.process import STAGES


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_no_worker_outlives_its_parent() -> None:
    nobody = {
        "EARFUL_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "EARFUL_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(PROJECT), **nobody}
    parent = subprocess.Popen(
        [sys.executable, "-m", "cli", "worker", "all"], env=env, stderr=subprocess.PIPE, text=True
    )
    children: list[psutil.Process] = []
    try:
        assert parent.stderr is not None
        says = iter(parent.stderr.readline, "")
        waiting: set[str] = set()
        while waiting != set(STAGES):  # each of them listens to signals by then
            line = next(says)
            waiting |= {stage for stage in STAGES if "worker.waits" in line and stage in line}
        children = psutil.Process(parent.pid).children()
        assert len(children) == len(STAGES)
        parent.kill()
        wait_for(lambda: not any(one.is_running() for one in children), "they end")
        parent.wait(5)
    finally:
        for one in (*children, parent):
            if isinstance(one, subprocess.Popen) or one.is_running():
                one.kill()
        parent.wait(5)
        parent.communicate()
