"""What the tests of producers and sender share."""

from __future__ import annotations

import pytest

from stack.stack import Stack
from tests.stream.broker import Broker


@pytest.fixture(scope="module")
def broker(stack: Stack) -> Broker:
    return Broker(stack.kafka.bootstrap)
