"""Fixtures for all tests: the real servers, with fast deterministic models in a real Triton (tests/models)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.home import clean
from stack.stack import Stack
from tests.faults import ills

TEST_MODELS = Path(__file__).parent / "models"
#: The home of a running stack that this session shall use instead of one of its own.
BORROWED = "TEST_STACK"
_PREFIX = "earful-test-"


def make_stack(home: Path) -> Stack:
    """Servers with the test models, which can be made ill (tests/faults/ills.py). Not started."""
    return Stack(home, model_repositories=[TEST_MODELS], triton_env={"FAULTS": str(home / ills.FOLDER)})


@pytest.fixture(name="stack", scope="session")
def _stack() -> Iterator[Stack]:
    """Kafka, PostgreSQL and Triton with tests/models, started once for all tests: see Stack.endpoints.

    Not below pytest's own temporary folder: pytest takes away the permissions that PostgreSQL's user needs
    on it. Servers that an earlier, killed session left behind are ended first.
    """
    if borrowed := os.environ.get(BORROWED):
        yield make_stack(Path(borrowed))
        return
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/lock"):  # a home without one is just being made
        if clean(lock.parent):
            shutil.rmtree(lock.parent, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with make_stack(home) as stack:
            yield stack
    finally:
        shutil.rmtree(home, ignore_errors=True)
