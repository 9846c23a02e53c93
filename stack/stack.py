"""The three servers of one home folder as one thing: started and stopped in parallel, cleaned up after."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from stack.kafka import Kafka
from stack.ports import Ports
from stack.postgres import Postgres
from stack.process import StackError, end, marked
from stack.triton import Triton, remove_shared_memory

__all__ = ["Server", "Stack", "clean", "write_json"]


# A killed owner is gone from the process list a moment before its last thread gives the lock back.
_LOCK_SECONDS = 3.0


class Server(Protocol):
    """What the stack and its supervisor need to know of a server."""

    @property
    def name(self) -> str:
        """Its name in logs and in status.json."""

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""

    def start(self) -> None:
        """Starts it and returns when it is healthy. Raises StackError."""

    def stop(self) -> None:
        """Stops it for certain. Stopping a stopped one is no error."""

    def healthy(self) -> bool:
        """Whether it does its work just now; asks it for real."""


class Stack:
    """Kafka, PostgreSQL and Triton on loopback, data and logs in `home`.

    One process owns a home at a time. What an owner killed with -9 left running is ended by the next start.
    Use it as a context manager, or call start() and stop().
    """

    def __init__(
        self, home: Path, *, model_repositories: Sequence[Path], triton_env: dict[str, str] | None = None
    ) -> None:
        self.home = home.resolve()
        self.home.mkdir(parents=True, exist_ok=True)
        ports = Ports(self.home)
        self.kafka = Kafka(self.home, ports)
        self.postgres = Postgres(self.home, ports)
        self.triton = Triton(self.home, ports, model_repositories, extra_env=triton_env)
        self._lock: int | None = None

    @property
    def servers(self) -> tuple[Server, ...]:
        """In the order in which they are reported; they do not need each other to start."""
        return (self.postgres, self.kafka, self.triton)

    @property
    def endpoints(self) -> dict[str, str]:
        """Where the running stack is: kafka (host:port), postgres_url, triton (host:port of gRPC), metrics (URL)."""
        return {
            "kafka": self.kafka.bootstrap,
            "postgres_url": self.postgres.url,
            "triton": self.triton.address,
            "metrics": self.triton.metrics_url,
        }

    def own(self) -> None:
        """Makes this process the home's owner and ends what a killed owner left. Raises StackError if one lives."""
        self._lock = _take_lock(self.home)
        end(marked(self.home))

    def start(self) -> None:
        """Starts all servers and writes home/endpoints.json. Raises StackError, with nothing left running."""
        if self._lock is None:
            self.own()
        try:
            with ThreadPoolExecutor(len(self.servers)) as pool:
                started = [pool.submit(server.start) for server in self.servers]
            for result in started:
                result.result()
            write_json(self.home / "endpoints.json", self.endpoints)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops all servers. Leaves no process and no shared memory behind; data and logs stay."""
        if self._lock is None:
            return
        (self.home / "endpoints.json").unlink(missing_ok=True)
        with ThreadPoolExecutor(len(self.servers)) as pool:
            stopped = [pool.submit(server.stop) for server in self.servers]
        end(marked(self.home))
        os.close(self._lock)
        self._lock = None
        for result in stopped:
            result.result()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def clean(home: Path) -> bool:
    """Ends what a killed owner of `home` left running. False, and nothing done, if the owner lives."""
    try:
        lock = _take_lock(home.resolve())
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


def _take_lock(home: Path) -> int:
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
