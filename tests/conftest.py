"""Fixtures for all tests: the real servers, with fast deterministic models in a real Triton (tests/models)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.stack import Stack
from tests.faults import ills
from tests.homes import temporary_home

TEST_MODELS = Path(__file__).parent / "models"
#: The home of a running stack that this session shall use instead of one of its own.
BORROWED = "TEST_STACK"


def make_stack(home: Path) -> Stack:
    """Servers with the test models, which can be made ill (tests/faults/ills.py). Not started."""
    return Stack(home, model_repositories=[TEST_MODELS], triton_env={"FAULTS": str(home / ills.FOLDER)})


@pytest.fixture(name="stack", scope="session")
def _stack() -> Iterator[Stack]:
    """Kafka, PostgreSQL and Triton with tests/models, started once for all tests: see Stack.endpoints."""
    if borrowed := os.environ.get(BORROWED):
        yield make_stack(Path(borrowed))
        return
    with temporary_home() as home, make_stack(home) as stack:
        yield stack
