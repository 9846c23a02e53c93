"""A pipeline on the shared stack, for the tests of one module; and a database alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from itertools import count

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from stack.stack import Stack
from store.engine import create
from tests.workers.pipeline import Pipeline, template

_numbers = count()


@pytest.fixture(scope="module")
def pipeline(stack: Stack) -> Iterator[Pipeline]:
    """One worker of each stage. The tests of a module share it, each with ids of its own; silence ends a call after 4 s."""
    with Pipeline(stack, call_silence_timeout_seconds=4) as made:
        made.start()
        yield made


def new_database(stack: Stack) -> str:
    """URL of a fresh migrated database."""
    url, name = stack.endpoints["postgres_url"], f"alone{os.getpid()}n{next(_numbers)}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template(stack)}")
    return url.rpartition("/")[0] + f"/{name}"


@pytest.fixture
def database(stack: Stack) -> str:
    """URL of a fresh migrated database."""
    return new_database(stack)


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    made = create(database, application_name="test", pool_size=8)
    yield made
    await made.dispose()
