"""`earful worker all`: one child a stage, which do not outlive their parent, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial

from settings import PROJECT, Settings
from workers.orphan import end_with
from workers.process import TEMPFAIL
from workers.stages import STAGES

__all__ = ["run_all", "watch"]

#: A worker stops itself within 10 s; a supervisor usually waits 15 s or more.
STOP_SECONDS = 11.0


def run_all(using: Settings) -> int:
    """A signal ends all of them; one that ends by itself ends all, so that the supervisor above sees it. The exit code."""
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: signals.append(received))
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "cli", "worker", stage],
            env=environment_of(using, number),
            # This process has one thread, which lives as long as it does.
            preexec_fn=partial(end_with, os.getpid(), TEMPFAIL),
        )
        for number, stage in enumerate(STAGES)
    ]
    return watch(children, signals)


def watch(children: Sequence[subprocess.Popen[bytes]], signals: Sequence[int]) -> int:
    """Until there is a signal or a child has ended by itself; then the others end, too.

    The exit code is that of who ended by itself, 0 after a signal that was obeyed: one that ended by SIGTERM before it
    listened to it did as it was told.
    """
    while not signals and all(child.poll() is None for child in children):
        time.sleep(0.2)
    first = [] if signals else [code_of(code) for child in children if (code := child.poll()) is not None]
    for child in children:
        child.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
    told = [0 if child.wait() == -signal.SIGTERM else code_of(child.wait()) for child in children]
    return max(first) or TEMPFAIL if first else max(told)


def code_of(returncode: int) -> int:
    """As a shell tells it: 128 and the signal's number for one that a signal ended."""
    return returncode if returncode >= 0 else 128 - returncode


def environment_of(using: Settings, number: int) -> dict[str, str]:
    """Each stage has a health port of its own: the first has the given one, the others follow."""
    # Safe path: a settings.py in the folder of the call does not stand for ours.
    ours = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONSAFEPATH": "1"}
    if using.health_port is None:
        return ours
    return {**ours, "EARFUL_HEALTH_PORT": str(using.health_port + number)}
