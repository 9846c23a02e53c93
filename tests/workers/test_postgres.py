"""Which failures of Postgres pass by themselves, each from a real server."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import AccessRefused, Transient
from stack.stack import Stack
from store.engine import create
from tests.workers.pipeline import Pipeline
from workers.postgres import connected


async def ask(engine: AsyncEngine, *statements: str) -> None:
    async with connected(engine) as connection:
        for one in statements:
            await connection.execute(sa.text(one))


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        # An operational error for the driver, yet no waiting makes an index row smaller.
        ("SELECT indexed(repeat(md5('x'), 1) || string_agg(md5(n::text), '')) FROM generate_series(1, 500) n", "54000"),
        ("SELECT 1 / 0", "22012"),
        ("SELECT CAST('x' AS int)", "22P02"),
    ],
)
async def test_what_never_passes_is_not_waited_for(
    engine: AsyncEngine, database: str, statement: str, sqlstate: str
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE keys (key text PRIMARY KEY)")
        connection.execute(
            "CREATE FUNCTION indexed(text) RETURNS text LANGUAGE sql AS 'INSERT INTO keys VALUES ($1) RETURNING key'"
        )
    with pytest.raises(DBAPIError) as caught:
        await ask(engine, statement)
    assert getattr(caught.value.orig, "sqlstate", None) == sqlstate


async def test_a_lock_that_somebody_holds_passes(engine: AsyncEngine, database: str) -> None:
    with psycopg.connect(database) as holder:
        holder.execute("LOCK TABLE ingest.ledger")
        with pytest.raises(Transient, match="lock timeout"):
            await ask(engine, "SET lock_timeout = '50ms'", "SELECT * FROM ingest.ledger")
    await ask(engine, "SELECT * FROM ingest.ledger")


async def test_a_backend_that_is_ended_passes(engine: AsyncEngine) -> None:
    with pytest.raises(Transient):
        await ask(engine, "SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 1")
    await ask(engine, "SELECT 1")


async def test_a_server_that_takes_no_writes_passes(engine: AsyncEngine) -> None:
    """As one that is not promoted yet."""
    with pytest.raises(Transient, match="read-only"):
        await ask(engine, "SET TRANSACTION READ ONLY", "CREATE TABLE t ()")


async def test_a_right_that_is_missing_is_waited_for(engine: AsyncEngine) -> None:
    with pytest.raises(Transient, match="Postgres refuses the statement: permission denied for schema ingest"):
        await ask(engine, "SET ROLE earful_analyst", "SELECT 1 FROM ingest.ledger")


async def test_a_pool_in_use_passes(database: str) -> None:
    made = create(database, pool_size=1, pool_timeout_seconds=0.2)
    async with made.connect():
        with pytest.raises(Transient, match="in use"):
            await ask(made, "SELECT 1")
    await ask(made, "SELECT 1")
    await made.dispose()


async def test_a_server_that_is_away_passes(database: str) -> None:
    made = create(str(sa.make_url(database).set(port=1).render_as_string(hide_password=False)))
    with pytest.raises(Transient, match="refused"):
        await ask(made, "SELECT 1")
    await made.dispose()


@pytest.mark.parametrize(
    "wrong", [{"password": "wrong"}, {"username": "nobody"}, {"database": "nowhere"}], ids=lambda one: next(iter(one))
)
async def test_a_login_that_is_refused_never_passes(database: str, wrong: dict[str, str]) -> None:
    made = create(sa.make_url(database).set(**wrong).render_as_string(hide_password=False))  # type: ignore[arg-type]
    with pytest.raises(AccessRefused):
        await ask(made, "SELECT 1")
    await made.dispose()


def test_a_worker_with_a_wrong_password_leaves_with_one_sentence(stack: Stack) -> None:
    with Pipeline(stack) as p:
        p.expects_deaths = True
        wrong = sa.make_url(p.url).set(password="wrong").render_as_string(hide_password=False)
        worker = p.worker("reviewer", postgres_url=wrong)
        p.wait(lambda: worker.returncode is not None, "it leaves", 20)
    lines = worker.log.read_text().splitlines()
    assert worker.returncode == 77
    assert len(lines) == 1
    assert "Postgres refuses the connection" in lines[0]
    assert "wrong" not in lines[0]


async def test_waiting_is_bounded_for_a_backend_that_never_answers(engine: AsyncEngine) -> None:
    with pytest.raises(Transient, match="statement timeout"):
        async with asyncio.timeout(20):
            await ask(engine, "SET statement_timeout = '50ms'", "SELECT pg_sleep(60)")
