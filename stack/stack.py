"""The three servers of one home folder as one thing: started and stopped in parallel, cleaned up after."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from stack.home import take_lock, write_json
from stack.kafka import Kafka
from stack.ports import Ports
from stack.postgres import Postgres
from stack.process import end, marked
from stack.triton import Triton

__all__ = ["Server", "Stack"]


class Server(Protocol):
    """What the stack and its supervisor need to know of a server."""

    @property
    def name(self) -> str:
        """Its name in logs and in status.json."""

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""

    @property
    def ending(self) -> str:
        """How it ended: exit code or signal; empty while it runs."""

    @property
    def check_seconds(self) -> float:
        """How long `healthy` may take."""

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
        self._starting: set[str] = set()
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
        self._lock = take_lock(self.home)
        end(marked(self.home))

    def start(self) -> None:
        """Starts all servers and writes home/endpoints.json. Raises StackError, with nothing left running."""
        if self._lock is None:
            self.own()
        try:
            self._starting = {server.name for server in self.servers}
            with ThreadPoolExecutor(len(self.servers)) as pool:
                started = [pool.submit(self._start, server) for server in self.servers]
            for result in started:
                result.result()
            write_json(self.home / "endpoints.json", self.endpoints)
        except BaseException:
            self.stop()
            raise

    def _start(self, server: Server) -> None:
        try:
            server.start()
        finally:
            self._starting.discard(server.name)

    def cut_off(self) -> None:
        """Kills, from another thread, the servers that start() has not seen healthy yet; it raises StackError then."""
        for name in tuple(self._starting):
            end(marked(self.home, name))

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
