"""What the command line needs of a stack that runs in the background: up, down, status."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from stack.home import clean, read_json, write_json
from stack.plan import Plan
from stack.process import StackError

__all__ = ["down", "endpoints", "status", "up"]

_UP_SECONDS = 1_260.0  # the servers' own limits (300 s, Phi-4's 900 s) and the preparing commands' (300 s) are below
_DOWN_SECONDS = 120.0  # workers 15 s, a check of all models 45 s with Phi-4, then servers 35 s at once
_POLL_SECONDS = 0.1
_PROJECT = Path(__file__).resolve().parents[1]


def up(home: Path, plan: Plan, *, tick: Callable[[str], None] = lambda state: None) -> dict[str, str]:
    """Starts a supervisor in the background and returns the endpoints when everything runs.

    `tick` is called about ten times a second with the state, for a progress display. Where a stack already runs in
    this home, its endpoints are returned and `plan` is not used. Raises StackError if the start fails. A start that
    is interrupted, by Ctrl-C say, is undone first.
    """
    home = home.resolve()
    if _supervisor(home) is None:
        home.mkdir(parents=True, exist_ok=True)
        (home / "logs").mkdir(exist_ok=True)
        (home / "status.json").unlink(missing_ok=True)
        write_json(home / "plan.json", asdict(plan))
        spawned = _spawn(home)
    else:
        spawned = None
    try:
        return _when_ready(home, spawned, tick)
    except BaseException:
        if spawned is not None:  # it may not have reported itself yet, so that `down` would not find it
            _end(spawned)
            clean(home)
        raise


def _when_ready(home: Path, spawned: psutil.Process | None, tick: Callable[[str], None]) -> dict[str, str]:
    deadline = time.monotonic() + _UP_SECONDS
    while True:
        now = status(home)
        if now["state"] == "ready":
            return endpoints(home)
        ended = spawned is not None and _has_ended(spawned)
        # A failed start reports its error first, and ends when everything is stopped.
        if ended or (spawned is None and now["state"] in ("failed", "stopped", "dead")):
            raise StackError(now.get("error") or f"the stack did not start; see {home / 'logs' / 'supervisor.log'}")
        if time.monotonic() > deadline:
            raise StackError(f"the stack was not ready after {_UP_SECONDS:g} s; see {home / 'logs'}")
        tick("starting" if now["state"] == "stopped" else now["state"])
        time.sleep(_POLL_SECONDS)


def _has_ended(process: psutil.Process) -> bool:
    try:
        process.wait(0)
    except psutil.TimeoutExpired:
        return False
    return True


def _end(supervisor: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        supervisor.terminate()
    _, alive = psutil.wait_procs([supervisor], timeout=_DOWN_SECONDS)
    for process in alive:
        process.kill()
        process.wait(5)


def down(home: Path) -> bool:
    """Stops the stack of this home and whatever a killed one left. False if nothing was running."""
    home = home.resolve()
    if not home.is_dir():
        return False
    supervisor = _supervisor(home)
    if supervisor is not None:
        _end(supervisor)
    if not clean(home):
        raise StackError(f"the stack in {home} belongs to another process (a test run or a demo); stop that")
    return supervisor is not None


def status(home: Path) -> dict[str, Any]:
    """status.json as the supervisor wrote it, or {"state": "stopped"}; "dead" if it was killed."""
    home = home.resolve()
    found = _read(home / "status.json", "state", "supervisor")
    if found is None:
        error = None
        if (home / "status.json").is_file():
            error = f"{home / 'status.json'} is empty or damaged; `earful down` and `earful up` write it anew"
        return {"state": "stopped", "error": error, "units": {}}
    if found["state"] in ("stopped", "failed") or _supervisor(home) is not None:
        return found
    return {**found, "state": "dead", "error": "the supervisor was killed; `earful up` or `earful down` cleans up"}


def endpoints(home: Path) -> dict[str, str]:
    """Where the running stack is; see Stack.endpoints. Raises StackError if none runs in this home."""
    found = _read(home / "endpoints.json")
    if found is None:
        if _supervisor(home) is None:
            raise StackError(f"no stack is running in {home}; start it with `earful up`")
        raise StackError(f"{home / 'endpoints.json'} is empty or damaged; `earful down` and `earful up` write it anew")
    return {str(key): str(value) for key, value in found.items()}


def _spawn(home: Path) -> psutil.Process:
    """A supervisor in a session of its own, which outlives this process."""
    log = os.open(home / "logs" / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        pid = os.posix_spawn(
            sys.executable,
            # Safe path: a settings.py or stack/ in the folder of the call does not stand for ours.
            [sys.executable, "-P", "-m", "stack.supervisor", "--home", str(home)],
            os.environ | {"PYTHONPATH": str(_PROJECT)},
            file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), *((os.POSIX_SPAWN_DUP2, log, fd) for fd in (1, 2))],
            setsid=True,
        )
        return psutil.Process(pid)  # a zombie has one, too, until it is waited for
    finally:
        os.close(log)
        os.close(null)


def _supervisor(home: Path) -> psutil.Process | None:
    """The supervisor of this home, if it lives: the recorded id counts only with its recorded start time."""
    found = _read(home / "status.json", "state", "supervisor")
    if found is None:
        return None
    try:
        process = psutil.Process(found["supervisor"]["pid"])
        alive = process.status() != psutil.STATUS_ZOMBIE
        # psutil reckons it from the time of boot, which drifts.
        same = abs(process.create_time() - found["supervisor"]["started"]) < 2
    except psutil.NoSuchProcess:
        return None
    return process if alive and same else None


def _read(path: Path, *fields: str) -> dict[str, Any] | None:
    """None where there is none with these fields; an empty or damaged one counts as none."""
    try:
        found = read_json(path)
    except ValueError:
        return None
    return found if found is not None and found.keys() >= set(fields) else None
