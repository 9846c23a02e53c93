"""`earful worker all`: a process each stage, ended together, whoever ends first."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from stack.process import Child, end, marked
from stack.stack import Stack
from tests.commands.conftest import settings_of
from tests.workers.pipeline import PROJECT, STAGES, Pipeline

#: What a supervisor usually waits before SIGKILL; nobody waits for the end after a death.
PATIENCE_SECONDS = {"told to stop": 15, "a stage dies": 30}


@pytest.fixture(scope="module")
def servers(stack: Stack) -> Iterator[Pipeline]:
    """Topics and a database; the workers come from the command."""
    with Pipeline(stack, partitions=1) as made:
        yield made


class Together:
    """The command in a process of its own, and the processes below it."""

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        self.port = free_ports(len(STAGES))
        self.child = Child(f"{pipeline.name}-{name}", home=pipeline.stack.home)
        env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        env |= {"PYTHONPATH": str(PROJECT), "EARFUL_HEALTH_PORT": str(self.port)} | settings_of(pipeline)
        self.child.start([sys.executable, "-m", "cli", "worker", "all"], env=env)

    def ready(self) -> list[bool]:
        return [answers(self.port + number) for number in range(len(STAGES))]

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.child.pid).children(recursive=True)

    def wait(self, holds: object, what: str, seconds: float) -> float:
        began = time.monotonic()
        while not holds():  # type: ignore[operator]
            told = self.child.log.read_text()[-3000:] if self.child.log.exists() else ""
            assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}\n{told}"
            time.sleep(0.1)
        return time.monotonic() - began


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for first in range(21_000 + os.getpid() % 5_000, 32_000, count):
        probes = []
        try:
            for number in range(count):
                probes.append(socket.create_server(("127.0.0.1", first + number)))
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
        return first
    raise AssertionError("no free ports")


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.parametrize("how", PATIENCE_SECONDS)
def test_they_start_and_end_together(servers: Pipeline, how: str) -> None:
    all_of_them = Together(servers, how.replace(" ", "-"))
    child = all_of_them.child
    try:
        all_of_them.wait(lambda: all(all_of_them.ready()), "four stages are ready", 90)
        stages = [one for one in all_of_them.processes() if one.cmdline()[-1] in STAGES]
        assert sorted(one.cmdline()[-1] for one in stages) == sorted(STAGES)
        if how == "told to stop":
            os.kill(child.pid or 0, signal.SIGTERM)
        else:
            stages[1].kill()
        all_of_them.wait(lambda: child.returncode is not None, "the end", PATIENCE_SECONDS[how])
        assert child.returncode == (0 if how == "told to stop" else 128 + signal.SIGKILL)
        assert not any(one.is_running() for one in stages)
        assert marked(servers.stack.home, child.name) == []
    finally:
        end(marked(servers.stack.home, child.name))
