"""A pipeline on the shared stack, for the tests of one module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stack.stack import Stack
from tests.workers.pipeline import Pipeline


@pytest.fixture(scope="module")
def pipeline(stack: Stack) -> Iterator[Pipeline]:
    """One worker of each stage. The tests of a module share it, each with ids of its own; silence ends a call after 4 s."""
    with Pipeline(stack, call_silence_timeout_seconds=4) as made:
        made.start()
        yield made
