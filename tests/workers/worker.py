"""One worker process of a pipeline: started, signalled, stopped, and what it said."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.process import Child

__all__ = ["PATIENCE_SECONDS", "Worker"]

#: From SIGTERM to SIGKILL, as the supervisor has it: a worker is cut off by itself 10 s after it was told to stop.
PATIENCE_SECONDS = 15.0


class Worker:
    """One worker process of a pipeline; `name` is its stage and number."""

    def __init__(self, home: Path, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.name = name
        self._command = [sys.executable, *command]
        self._env = dict(env)
        self._child = Child(name, home=home, patience_seconds=PATIENCE_SECONDS)
        self.log = self._child.log

    def start(self, **env: str) -> None:
        self._child.start(self._command, env=self._env | env)

    @property
    def pid(self) -> int | None:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        return self._child.returncode

    def kill(self) -> None:
        """SIGKILL: nothing is said goodbye to. The kernel ends its decoder child."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        pid = self._child.pid
        if pid is not None:
            os.kill(pid, number)

    def stop(self) -> int | None:
        """SIGTERM and wait. Returns the exit code."""
        self._child.stop()
        return self._child.returncode

    def tail(self, lines: int = 8) -> str:
        text = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(line[:1500] for line in text[-lines:])
