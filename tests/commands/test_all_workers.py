"""`earful worker all`: its children end with it, also when nobody can tell them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from commands.all_workers import watch
from tests.workers.pipeline import PROJECT
from workers.stages import STAGES


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def running(*scripts: str) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen(["sh", "-c", script]) for script in scripts]


WAITS = "exec sleep 60"  # ended by SIGTERM like a worker that has not installed its handler yet


@pytest.mark.parametrize(("code", "told"), [(77, 77), (75, 75), (70, 70), (0, 75)])
def test_the_exit_code_is_that_of_the_worker_that_left(code: int, told: int) -> None:
    assert watch(running(WAITS, f"exit {code}", WAITS), []) == told


def test_a_signal_that_all_obeyed_is_no_failure() -> None:
    assert watch(running(WAITS, WAITS), [signal.SIGTERM]) == 0
    failed = running("exit 70", WAITS)
    failed[0].wait()
    assert watch(failed, [signal.SIGTERM]) == 70


def test_no_worker_outlives_its_parent() -> None:
    nobody = {
        "EARFUL_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "EARFUL_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(PROJECT), **nobody}
    Path("settings.py").write_text(
        "raise SystemExit('not ours')"
    )  # in the folder of the call; it stands for none of ours
    parent = subprocess.Popen(
        [sys.executable, "-P", "-m", "cli", "worker", "all"], env=env, stderr=subprocess.PIPE, text=True
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
