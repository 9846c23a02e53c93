"""A pipeline for all tests of the commands, and the settings with which they reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.stack import Stack
from tests.commands.runner import Done, earful
from tests.workers.pipeline import Pipeline

Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def _no_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's .env must not reach the tests."""
    monkeypatch.chdir(tmp_path)


def settings_of(pipeline: Pipeline) -> dict[str, str]:
    """EARFUL_* variables for a command or worker of this pipeline."""
    endpoints = pipeline.stack.endpoints
    return {
        "EARFUL_KAFKA_BOOTSTRAP_SERVERS": endpoints["kafka"],
        "EARFUL_POSTGRES_URL": pipeline.url,
        "EARFUL_TRITON_URL": endpoints["triton"],
        "EARFUL_TOPIC_PREFIX": pipeline.topics.prefix,
        "EARFUL_PARTITIONS": str(pipeline.partitions),
        "EARFUL_SESSION_TIMEOUT_SECONDS": "6",
    }


@pytest.fixture(scope="package")
def pipeline(stack: Stack) -> Iterator[Pipeline]:
    """One worker of each stage; the tests have ids of their own."""
    with Pipeline(stack) as made:
        made.start()
        yield made


@pytest.fixture
def run(pipeline: Pipeline) -> Run:
    """`earful` against the pipeline."""
    return lambda *arguments, **env: earful(*arguments, env=settings_of(pipeline) | env)
