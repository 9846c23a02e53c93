"""The parts a benchmark stands on: one Stack in a temporary home, and for each benchmark a database and topics of its own."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg
from pydantic import SecretStr

from commands.admin import create_topics, open_run
from settings import PROJECT, Settings
from stack.process import Child, marked
from stack.stack import Stack
from store import migrate
from stream.topics import Topics

__all__ = ["REAL", "Rig", "Site"]

MODELS = PROJECT / "model_repo"
STAND_INS = PROJECT / "tests" / "models"
SENTIMENT = ("aspects", "cvib")
#: Whether the sentiment models' weights are here; otherwise stand-ins are served, and figures of reviews mean nothing.
REAL = all((MODELS / name / "1" / "model.onnx").exists() for name in SENTIMENT)
POLL_SECONDS = 0.25
#: Postgres starts a backend for each connection of a pool; more than this and a worker is not starting but stuck.
START_SECONDS = 90.0


class Rig:
    """Kafka, Postgres and Triton for the benchmarks of one run. A context manager: nothing is left behind."""

    def __init__(self) -> None:
        self._resources = ExitStack()
        self._numbers = count()

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            home = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="earful-bench-")))
            home.chmod(0o755)  # PostgreSQL runs as a user of its own where we are root
            repository = home / "models"
            repository.mkdir()
            for name in ("whisper", *SENTIMENT):
                real = name == "whisper" or REAL
                (repository / name).symlink_to((MODELS if real else STAND_INS) / name, target_is_directory=True)
            self.stack = resources.enter_context(Stack(home / "stack", model_repositories=[repository]))
            self.url = self.stack.endpoints["postgres_url"]
            migrate.upgrade(self.database("template"))
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def site(self, name: str) -> Site:
        """An empty deployment on these servers."""
        return Site(self, f"{name}{next(self._numbers)}")

    def database(self, name: str, template: str | None = None) -> str:
        """Make a database; returns its URL."""
        with psycopg.connect(self.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return self.url.rpartition("/")[0] + f"/{name}"

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time used so far by each live server and worker, its children included."""
        used: dict[str, float] = {}
        for process in marked(self.stack.home):
            try:
                name = unit_of(process, self.stack.home)
                times = process.cpu_times()
            except psutil.Error:
                continue
            used[name] = used.get(name, 0.0) + times.user + times.system
        return used


class Site:
    """A database, topics and a run of a benchmark's own, with the default settings; its workers end with it."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig = rig
        endpoints = rig.stack.endpoints
        self.settings = Settings(
            kafka_bootstrap_servers=endpoints["kafka"],
            postgres_url=SecretStr(rig.database(name, template="template")),
            triton_url=endpoints["triton"],
            topic_prefix=f"{name}.",
        )
        self.name = name
        self.topics = Topics(self.settings.topic_prefix)
        self.workers: dict[str, Child] = {}
        create_topics(self.settings)
        self.run_id = open_run(self.settings, make_current=True)
        self._connection = psycopg.connect(self.settings.postgres_url.get_secret_value(), autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers.values():
            worker.stop()
        self._connection.close()

    def start(self, stage: str, *, module: str = "workers", env: dict[str, str] | None = None) -> None:
        """Start a stage's worker and wait until it has its partitions. `module` is what `python -m` runs."""
        worker = self.workers[stage] = Child(f"{self.name}-{stage}", home=self.rig.stack.home)
        using = self.settings
        worker.start(
            [sys.executable, "-m", module, stage],
            env={
                **{key: value for key, value in os.environ.items() if not key.startswith("EARFUL_")},
                "PYTHONPATH": str(PROJECT),
                "EARFUL_KAFKA_BOOTSTRAP_SERVERS": using.kafka_bootstrap_servers,
                "EARFUL_POSTGRES_URL": using.postgres_url.get_secret_value(),
                "EARFUL_TRITON_URL": using.triton_url,
                "EARFUL_TOPIC_PREFIX": using.topic_prefix,
                **(env or {}),
            },
        )
        self.wait(
            lambda: self.one("SELECT count(*) FROM ingest.ledger WHERE stage = %s", stage) == using.partitions,
            START_SECONDS,
        )

    def stop(self, stage: str) -> None:
        self.workers.pop(stage).stop()

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, *parameters: object) -> Any:
        """The first column of the only row."""
        return self.rows(sql, *parameters)[0][0]

    def done(self, stage: str) -> int:
        """Records that have their verdict."""
        return int(self.one("SELECT coalesce(sum(next_offset), 0) FROM ingest.ledger WHERE stage = %s", stage))

    def wait(self, holds: Callable[[], bool], seconds: float) -> None:
        """Until it holds. Raises TimeoutError after `seconds`, RuntimeError when a worker ends."""
        deadline = time.monotonic() + seconds
        while not holds():
            for stage, worker in self.workers.items():
                if worker.returncode is not None:
                    raise RuntimeError(f"{stage} ended with {worker.returncode}:\n{tail(worker.log)}")
            if time.monotonic() > deadline:
                logs = "\n".join(f"== {stage}\n{tail(worker.log)}" for stage, worker in self.workers.items())
                raise TimeoutError(f"not done after {seconds:.0f} s\n{logs}")
            time.sleep(POLL_SECONDS)


def unit_of(process: psutil.Process, home: Path) -> str:
    """The stack's name of a process: postgres, kafka, triton, or <site>-<stage>."""
    if process.name() == "postgres":
        return "postgres"
    environment = process.environ()
    return next((value.removeprefix(f"{home}:") for value in environment.values() if value.startswith(f"{home}:")), "?")


def tail(log: Path, lines: int = 5) -> str:
    text: Sequence[str] = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(line[:1000] for line in text[-lines:])
