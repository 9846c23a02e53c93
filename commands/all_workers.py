"""`earful worker all`: one child a stage, which do not outlive their parent, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from settings import Settings
from workers.process import STAGES, TEMPFAIL

__all__ = ["run_all"]

#: A worker stops itself within 10 s; a supervisor usually waits 15 s or more.
STOP_SECONDS = 11.0
#: prctl(2): the signal that a process gets when the thread that started it ends, also by SIGKILL.
PR_SET_PDEATHSIG = 1


def run_all(using: Settings) -> int:
    """A signal ends all of them; the first that ends ends all, so that the supervisor above sees it. The exit code."""
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: signals.append(received))
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "cli", "worker", stage],
            env=environment_of(using, number),
            preexec_fn=bound_to(os.getpid()),  # this process has one thread, which lives as long as it does
        )
        for number, stage in enumerate(STAGES)
    ]
    while not signals and all(child.poll() is None for child in children):
        time.sleep(0.2)
    for child in children:
        child.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
    worst = max(code if code >= 0 else 128 - code for code in (child.wait() for child in children))
    return worst if signals else worst or TEMPFAIL


def bound_to(parent: int) -> Callable[[], None]:
    """Runs in the child before it becomes a worker: SIGTERM when the parent is gone, also if it is gone already."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def bind() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(TEMPFAIL)

    return bind


def environment_of(using: Settings, number: int) -> dict[str, str]:
    """Each stage has a health port of its own: the first has the given one, the others follow."""
    if using.health_port is None:
        return dict(os.environ)
    return {**os.environ, "EARFUL_HEALTH_PORT": str(using.health_port + number)}
