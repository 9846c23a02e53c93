"""One child process of the stack: started with a mark, stopped for certain, found again after a crash.

Every child carries the mark STACK_OF_EARFUL=<home>:<name> in its environment, and passes it on to its own
children. The mark is set by the same system call that starts the process, so, unlike a pid file, it has no
moment at which a `kill -9` of the parent could leave a process that nobody knows.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

__all__ = ["MARK", "START_SECONDS", "Child", "OfOneChild", "StackError", "end", "marked"]

MARK = "STACK_OF_EARFUL"
# A server that lives has so long until it must answer. All are there within 15 s; where twenty others wanted each core Kafka
# was not within 60, and was ended and started anew sixteen times. Death is seen at once.
START_SECONDS = 300.0
_POLL_SECONDS = 0.05
_TRACKER_SECONDS = 3.0


class StackError(RuntimeError):
    """A server did not start or did not stop. The text says which, and the end of its log."""


def _as_user(user: str | None, command: Sequence[str | Path]) -> list[str]:
    """The command, run as `user` if one is given.

    Not subprocess's own `user`: that takes fork() instead of vfork(), and gRPC's fork handlers in this process then
    crash it now and then (a general protection fault in event_engine, seen on a busy machine).
    """
    words = [str(part) for part in command]
    if user is None:
        return words
    entry = pwd.getpwnam(user)
    change = f"import os, sys; os.setgroups([]); os.setgid({entry.pw_gid}); os.setuid({entry.pw_uid}); "
    return [sys.executable, "-I", "-S", "-c", change + "os.execv(sys.argv[1], sys.argv[1:])", *words]


def marked(home: Path, name: str = "") -> list[psutil.Process]:
    """The live processes of the stack in `home` (of one child, if named), but not this one."""
    wanted = f"{home}:{name}"
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK) or _mark_of_backend(process)
            if mark == wanted if name else mark.startswith(wanted):
                found.append(process)
    return found


def _mark_of_backend(process: psutil.Process) -> str:
    """PostgreSQL's children write their title over their environment; their folder tells whose they are."""
    if process.name() != "postgres":
        return ""
    data = Path(process.cwd())  # home/postgres/data
    return f"{data.parent.parent}:{data.parent.name}"


def end(processes: Iterable[psutil.Process]) -> None:
    """Kills the processes and waits for them. Processes that are already gone are no error.

    Python's resource tracker leaves by itself when its parent is gone, and unlinks the parent's semaphores in
    /dev/shm first: it is given the time.
    """
    left: list[psutil.Process] = []
    trackers: list[psutil.Process] = []
    for process in processes:
        (trackers if _is_tracker(process) else left).append(process)
    _kill(left)
    _, trackers = psutil.wait_procs(trackers, timeout=_TRACKER_SECONDS)
    _kill(trackers)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


def _is_tracker(process: psutil.Process) -> bool:
    try:
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


class Child:
    """A command that is kept running in the background, its output in a log file.

    Not thread safe: one thread owns a Child.
    """

    def __init__(
        self,
        name: str,
        *,
        home: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        patience_seconds: float = 10,
        user: str | None = None,
        telling: str = "",
    ) -> None:
        """`telling` is a pattern of the log lines that say why a start failed; without it, the last lines."""
        self.name = name
        self.home = home
        self.log = home / "logs" / f"{name}.log"
        self._stop_signal = stop_signal
        self._patience = patience_seconds
        self._user = user
        self._telling = re.compile(telling)
        self._log_start = 0
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._popen.pid if self._popen is not None and self._popen.poll() is None else None

    @property
    def returncode(self) -> int | None:
        """How it ended, or None while it runs or before it was started."""
        return None if self._popen is None else self._popen.poll()

    @property
    def ending(self) -> str:
        """How it ended, in words: its exit code or the signal; empty while it runs or before it was started."""
        code = self.returncode
        if code is None:
            return ""
        if code >= 0:
            return f"exit code {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:  # most real-time signals have no name
            return f"signal {-code}"

    def start(self, command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path | None = None) -> None:
        """Starts the command, after an end of whatever an earlier one of this name left behind."""
        end(marked(self.home, self.name))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._popen = subprocess.Popen(
                _as_user(self._user, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._marked(env),
                cwd=cwd or self.home,
                start_new_session=True,  # Ctrl-C in the terminal is the owner's to handle, not the servers'
            )

    def run_to_end(
        self,
        what: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        seconds: float,
        cwd: Path | None = None,
    ) -> None:
        """Runs a command that prepares the child and ends by itself. Raises StackError: `what` could not be done, and why."""
        try:
            done = subprocess.run(
                _as_user(self._user, command),
                env=self._marked(env),
                cwd=cwd or self.home,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as err:  # its text is the whole command, for Kafka 5 kB of class path
            raise StackError(f"{what} within {seconds:g} s: the machine may be too busy") from err
        if done.returncode != 0:
            raise StackError(f"{what}:\n{done.stdout}{done.stderr}")

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Returns when ready() says so. Raises StackError if the process ends or the time is over first."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.returncode is not None:
                raise StackError(f"{self.name} ended with {self.ending} at its start; {self._last_lines()}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} was not ready after {seconds:g} s; {self._last_lines()}")
            time.sleep(_POLL_SECONDS)

    def stop(self, patience_seconds: float | None = None) -> None:
        """Asks it to stop, waits (as long as `__init__` was told, or so long), kills it and its children if need be."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(self._stop_signal)
            try:
                self._popen.wait(self._patience if patience_seconds is None else patience_seconds)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        end(marked(self.home, self.name))

    def _marked(self, env: Mapping[str, str]) -> dict[str, str]:
        return {**env, MARK: f"{self.home}:{self.name}"}

    def _last_lines(self) -> str:
        with self.log.open("rb") as file:
            size = self.log.stat().st_size
            start = self._log_start if self._log_start <= size else 0  # it may have been set aside since
            file.seek(max(start, size - 64_000))
            lines = file.read().decode(errors="replace").splitlines()
        lines = [line for line in lines if self._telling.search(line)] or lines
        return f"from {self.log}:\n" + "\n".join(line[:500] for line in lines[-15:])


class OfOneChild:
    """A server or a worker that is one child process."""

    _child: Child

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._child.pid

    @property
    def ending(self) -> str:
        """How it ended: exit code or signal; empty while it runs or before it was started."""
        return self._child.ending
