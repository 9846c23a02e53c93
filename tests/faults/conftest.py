"""Loads worked off without a fault: what the tests of this folder compare with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stack.stack import Stack
from tests.conftest import make_stack
from tests.faults.chaos import undisturbed
from tests.faults.load import Load
from tests.faults.results import Figures
from tests.homes import temporary_home

SMALL = Load(seed=7, reviews=200, calls=8)


@pytest.fixture(scope="package")
def small() -> Load:
    return SMALL


@pytest.fixture(scope="package")
def small_content(stack: Stack, small: Load) -> list[str]:
    """Content of the small load without faults; the oracle finds nothing wrong with it."""
    return undisturbed(stack, small)


@pytest.fixture
def own_stack() -> Iterator[Stack]:
    """Servers of a test's own, because it kills them."""
    with temporary_home() as home, make_stack(home) as stack:
        yield stack


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """What a test says of itself for docs/results/chaos.json."""
    made = Figures()
    request.node.figures = made
    return made
