"""What every command needs: settings that know the local stack, and errors that a person can read."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import psycopg
import typer
from psycopg.rows import DictRow, dict_row
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncConnection

from settings import Settings, load
from store.engine import create

__all__ = ["Failed", "console", "database", "endpoints", "errors", "fail", "in_transaction", "print_json", "settings"]

T = TypeVar("T")

#: Exit codes: 1 the command failed, 2 its arguments are wrong (typer's own), 3 what it needs does not run.
FAILED, UNAVAILABLE = 1, 3

console = Console()
errors = Console(stderr=True)

#: Settings that endpoints.json of the local stack answers unless the environment does.
LOCAL = {"kafka": "kafka_bootstrap_servers", "postgres_url": "postgres_url", "triton": "triton_url"}


class Failed(typer.Exit):
    """Ends the command with a message that was already printed."""


def fail(message: str, code: int = FAILED) -> NoReturn:
    """One sentence on standard error, then leave."""
    errors.print(f"[red]error:[/red] {message}", highlight=False, soft_wrap=True)
    raise Failed(code)


def endpoints(home: os.PathLike[str]) -> dict[str, str]:
    """Where the local stack is; empty when it does not run."""
    try:
        with open(os.path.join(home, "endpoints.json")) as file:
            found: dict[str, str] = json.load(file)
            return found
    except FileNotFoundError:
        return {}


def settings() -> Settings:
    """The environment's settings; what it leaves open comes from the local stack, if one runs."""
    try:
        given = load()
    except ValueError as err:
        fail(str(err), 2)
    local = endpoints(given.home)
    found = {
        field: local[name] for name, field in LOCAL.items() if name in local and field not in given.model_fields_set
    }
    return Settings(**(given.model_dump(include=given.model_fields_set) | found)) if found else given


@contextmanager
def database(url: str) -> Iterator[psycopg.Connection[DictRow]]:
    """A plain psycopg connection for reading; rows are dicts."""
    try:
        connection = psycopg.connect(url.replace("+psycopg", ""), row_factory=dict_row, connect_timeout=5)
    except psycopg.OperationalError as err:
        fail(
            f"Postgres does not answer: {str(err).strip()}. Is the stack up? `earful up` starts the local one.",
            UNAVAILABLE,
        )
    with connection:
        yield connection


def in_transaction(using: Settings, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Run one transaction of store's async functions."""

    async def run() -> T:
        engine = create(using.postgres_url.get_secret_value(), application_name="earful-cli", pool_size=1)
        try:
            async with engine.begin() as connection:
                return await work(connection)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def print_json(value: Any) -> None:
    """For programs: nothing but JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, default=str))
