"""What can be said of a stack's home folder without any of its servers: owner, leftovers, shared memory.

Imports none of the servers' packages, so that the command line works where only the workers' are installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from stack.process import StackError, end, marked

__all__ = ["clean", "read_json", "remove_shared_memory", "shared_memory", "shm_prefix", "take_lock", "write_json"]

_SHM = Path("/dev/shm")
# A killed owner is gone from the process list a moment before its last thread gives the lock back.
_LOCK_SECONDS = 3.0


def clean(home: Path) -> bool:
    """Ends what a killed owner of `home` left running. False, and nothing done, if the owner lives."""
    try:
        lock = take_lock(home.resolve())
    except StackError:
        return False
    end(marked(home.resolve()))
    remove_shared_memory(home.resolve())
    (home / "endpoints.json").unlink(missing_ok=True)
    os.close(lock)
    return True


def write_json(path: Path, value: object) -> None:
    """Writes a file that no reader sees half written, readable by its owner only: it may hold a password."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(value, indent=1) + "\n")
    new.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """None where there is none. Raises ValueError for an empty or damaged one, as a lost machine leaves it."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is empty or damaged")
    return found


def take_lock(home: Path) -> int:
    """An exclusive lock that the kernel gives back when this process ends, however it ends."""
    home.mkdir(parents=True, exist_ok=True)
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            if time.monotonic() > deadline:
                os.close(lock)
                raise StackError(f"a stack is already running in {home}; stop it first (`earful down`)") from err
            time.sleep(0.05)
        else:
            return lock


def shared_memory(home: Path) -> list[Path]:
    """The memory that server and stubs of this home share just now, or that a kill -9 left behind."""
    return sorted(_SHM.glob(f"{shm_prefix(home)}*"))


def remove_shared_memory(home: Path) -> None:
    """Removes it; for when no server of this home runs."""
    for region in shared_memory(home):
        region.unlink(missing_ok=True)


def shm_prefix(home: Path) -> str:
    """How the names of this home's shared memory begin."""
    return f"earful-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}-"
