"""The servers a benchmark stands on: one Stack in a temporary home, with the real models and the bench's own choice of window."""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg

from bench.site import Site
from settings import PROJECT
from stack.process import marked
from stack.stack import Stack
from store import migrate
from stream.topics import DEFAULT_PARTITIONS

__all__ = ["MODELS", "REAL", "SENTIMENT", "SPEECH", "Rig"]

MODELS = PROJECT / "model_repo"
STAND_INS = PROJECT / "tests" / "models"
TEMPLATE = "template"
SPEECH, SENTIMENT = "whisper", ("aspects", "cvib")
#: Whether the sentiment models' weights are here; otherwise stand-ins are served, and figures of reviews mean nothing.
REAL = all((MODELS / name / "1" / "model.onnx").exists() for name in SENTIMENT)


class Rig:
    """Kafka, Postgres and Triton for the benchmarks of one run. A context manager: nothing is left behind."""

    template = TEMPLATE  # the database that every site gets a copy of

    def __init__(self, *, window_seconds: float | None = None) -> None:
        """`window_seconds`: the least that Whisper encodes, where it is not to be what config.pbtxt says."""
        self._window_seconds = window_seconds
        self._resources = ExitStack()
        self._numbers = count()

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            home = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="earful-bench-")))
            home.chmod(0o755)  # PostgreSQL runs as a user of its own where we are root
            repository = home / "models"
            repository.mkdir()
            for name in (SPEECH, *SENTIMENT):
                real = name == SPEECH or REAL
                (repository / name).symlink_to((MODELS if real else STAND_INS) / name, target_is_directory=True)
            if self._window_seconds is not None:
                with_window(repository / SPEECH, self._window_seconds)
            self.stack = resources.enter_context(Stack(home / "stack", model_repositories=[repository]))
            self.url = self.stack.endpoints["postgres_url"]
            migrate.upgrade(self._copy("template0", TEMPLATE))
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def site(self, name: str, partitions: int = DEFAULT_PARTITIONS) -> Site:
        """An empty deployment on these servers."""
        return Site(self, f"{name}{next(self._numbers)}", partitions)

    def database(self, name: str) -> str:
        """Make a database with our schema; returns its URL."""
        return self._copy(self.template, name)

    def _copy(self, template: str, name: str) -> str:
        with psycopg.connect(self.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url.rpartition("/")[0] + f"/{name}"

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time used so far by each live server, Triton model and worker, its children included."""
        used: dict[str, float] = {}
        for process in marked(self.stack.home):
            try:
                name = unit_of(process, self.stack.home)
                times = process.cpu_times()
            except psutil.Error:
                continue
            used[name] = used.get(name, 0.0) + times.user + times.system
        return used


def unit_of(process: psutil.Process, home: Path) -> str:
    """The stack's name of a process: postgres, kafka, triton, triton-<model>, or <site>-<stage>."""
    if process.name() == "postgres":
        return "postgres"
    environment = process.environ()
    unit = next((value.removeprefix(f"{home}:") for value in environment.values() if value.startswith(f"{home}:")), "?")
    model = next((Path(word).parts[-3] for word in process.cmdline() if word.endswith("/1/model.py")), None)
    return unit if model is None else f"{unit}-{model}"


def with_window(model: Path, seconds: float) -> None:
    """Put in the place of a link to a Whisper model the same model with another window, in seconds."""
    original = model.resolve()
    model.unlink()
    shutil.copytree(original, model, ignore=shutil.ignore_patterns("1"))
    (model / "1").symlink_to(original / "1", target_is_directory=True)
    config, found = re.subn(
        r'"window_seconds":[\d.]+', f'"window_seconds":{seconds}', (model / "config.pbtxt").read_text()
    )
    if found != 1:
        raise ValueError(f"{original / 'config.pbtxt'} names no window_seconds")
    (model / "config.pbtxt").write_text(config)
