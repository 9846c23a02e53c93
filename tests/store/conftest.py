"""A real PostgreSQL for these tests alone: one migrated template database per run.

A test that commits gets a copy of it (`url`, `engine`); one that does not shares a copy and is rolled back (`conn`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date
from itertools import count

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from stack.ports import Ports
from stack.postgres import Postgres
from store import engine as engines
from store import migrate
from tests.homes import temporary_home

FIRST, LAST = date(2026, 1, 1), date(2026, 12, 1)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """URL of the server, as its superuser, without a database."""
    with temporary_home() as home:
        postgres = Postgres(home, Ports(home))
        try:
            postgres.start()
            url = postgres.url.rpartition("/")[0]
            with psycopg.connect(f"{url}/postgres", autocommit=True) as admin:
                admin.execute("ALTER SYSTEM SET fsync = off")  # nothing here outlives the run
                admin.execute("SELECT pg_reload_conf()")
            yield url
        finally:
            if postgres.pid is not None:
                os.kill(postgres.pid, signal.SIGQUIT)  # at once: a checkpoint of all the copies would take a minute
            postgres.stop()


@pytest.fixture(scope="session")
def new_database(server: str) -> Callable[[str | None], str]:
    """Makes a database, empty or a copy of another, and answers its URL."""
    numbers = count()

    def create(template: str | None = None) -> str:
        name = f"t{next(numbers)}"
        with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return f"{server}/{name}"

    return create


@pytest.fixture(scope="session")
def template(new_database: Callable[[str | None], str]) -> str:
    """Name of the migrated template database."""
    url = new_database(None)
    migrate.upgrade(url, from_month=FIRST, to_month=LAST)
    return url.rpartition("/")[2]


@pytest.fixture
def url(new_database: Callable[[str | None], str], template: str) -> str:
    """URL of a fresh copy of the migrated database."""
    return new_database(template)


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    created = engines.create(url, application_name="test", pool_size=8)
    yield created
    await created.dispose()


@pytest.fixture(scope="session")
def shared_url(new_database: Callable[[str | None], str], template: str) -> str:
    """URL of a copy that nobody commits to."""
    return new_database(template)


@pytest_asyncio.fixture
async def conn(shared_url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction that is rolled back."""
    created = engines.create(shared_url, application_name="test")
    async with created.connect() as open_connection:
        yield open_connection
    await created.dispose()
