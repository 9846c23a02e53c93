"""Fixtures for all tests: the real servers, with fast deterministic models in a real Triton (tests/models)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.home import clean
from stack.stack import Stack

TEST_MODELS = Path(__file__).parent / "models"
_PREFIX = "earful-test-"


@pytest.fixture(name="stack", scope="session")
def _stack() -> Iterator[Stack]:
    """Kafka, PostgreSQL and Triton with tests/models, started once for all tests: see Stack.endpoints.

    Not below pytest's own temporary folder: pytest takes away the permissions that PostgreSQL's user needs
    on it. Servers that an earlier, killed session left behind are ended first.
    """
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/lock"):  # a home without one is just being made
        if clean(lock.parent):
            shutil.rmtree(lock.parent, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with Stack(home, model_repositories=[TEST_MODELS]) as stack:
            yield stack
    finally:
        shutil.rmtree(home, ignore_errors=True)
