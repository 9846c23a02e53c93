"""What every command needs: settings that know the local stack, and errors that a person can read.

Exit codes: 0 done, 1 the command failed or was refused, 2 its arguments or settings are wrong (typer's own too), 3 what
it needs does not answer.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import psycopg
import typer
from psycopg.rows import DictRow, dict_row
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from errors import AccessRefused, Transient
from report.render import clean
from settings import Settings, load
from stack.home import read_json
from store.engine import create
from workers.access import check_access
from workers.kafka import NoTopic, topic_ids
from workers.postgres import postgres_refuses

__all__ = [
    "FAILED",
    "LOCAL",
    "UNAVAILABLE",
    "WRONG",
    "AsJson",
    "Failed",
    "connect",
    "console",
    "database",
    "endpoints",
    "errors",
    "explained",
    "fail",
    "in_transaction",
    "of_environment",
    "of_local_stack",
    "print_json",
    "print_table",
    "require_kafka",
    "require_topics",
    "settings",
    "tell_error",
    "transaction",
    "watched",
]

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="For programs")]

FAILED, WRONG, UNAVAILABLE = 1, 2, 3

console = Console()
errors = Console(stderr=True)

ENDPOINTS = "endpoints.json"
#: Settings that it answers, where a local stack runs, unless the environment does.
LOCAL = {"kafka": "kafka_bootstrap_servers", "postgres_url": "postgres_url", "triton": "triton_url"}


class Failed(typer.Exit):
    """Ends the command with a message that was already printed."""


def tell_error(message: str) -> None:
    """One sentence on standard error; below it Postgres may point at a place in a query."""
    shown = escape(clean(message, keep="\n"))
    errors.print(f"[red]error:[/red] {shown}", highlight=False, soft_wrap=True)


def fail(message: str, code: int = FAILED) -> NoReturn:
    """One sentence on standard error, then leave."""
    tell_error(message)
    raise Failed(code)


def endpoints(home: Path) -> dict[str, str]:
    """Where the local stack is; empty when it does not run."""
    try:
        found = read_json(home / ENDPOINTS) or {}
    except ValueError as err:
        tell_error(f"{err} and counts for nothing; `earful down` and `earful up` write it anew")
        return {}
    return {name: str(value) for name, value in found.items()}


def of_environment() -> Settings:
    """All that a command about the local stack itself needs: it works whatever endpoints.json says."""
    try:
        return load()
    except ValueError as err:
        fail(str(err), WRONG)


def settings() -> Settings:
    """The environment's settings; what it leaves open comes from the local stack, if one runs."""
    given = of_environment()
    local = endpoints(given.home)
    found = {
        field: local[name] for name, field in LOCAL.items() if name in local and field not in given.model_fields_set
    }
    return changed(given, **found)


def of_local_stack(given: Settings, local: Mapping[str, str]) -> Settings:
    """`given`, but for the local stack's servers, whatever servers the environment names."""
    servers = {field: local[name] for name, field in LOCAL.items()}
    return changed(given, **servers, kafka_security_protocol="PLAINTEXT", triton_ssl=False)


def changed(given: Settings, **fields: object) -> Settings:
    try:
        return Settings(**(given.model_dump(include=given.model_fields_set) | fields))
    except ValidationError as err:
        wrong = ", ".join(f"{one['loc'][0]}: {one['msg']}" for one in err.errors(include_input=False))
        fail(f"{given.home / ENDPOINTS} is wrong ({wrong}); `earful down` and `earful up` write it anew", WRONG)


@contextmanager
def database(url: str) -> Iterator[psycopg.Connection[DictRow]]:
    """A plain psycopg connection for reading; rows are dicts. Errors of Postgres end the command with one sentence."""
    try:
        with connect(url) as connection:
            yield connection
    except psycopg.Error as err:
        fail(*explained(err))


def connect(url: str) -> psycopg.Connection[DictRow]:
    connection = psycopg.connect("postgresql://" + url.partition("://")[2], row_factory=dict_row, connect_timeout=5)
    connection.execute("SET TimeZone = 'UTC'")  # as everywhere else, whatever the server's zone
    connection.commit()
    return connection


def in_transaction(using: Settings, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Run one transaction of store's async functions. Errors of Postgres end the command, but not IntegrityError."""
    try:
        return transaction(using, work)
    except IntegrityError:
        raise
    except DBAPIError as err:
        fail(*explained(err.orig))


def transaction(using: Settings, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """The same; raises SQLAlchemy's errors."""

    async def run() -> T:
        engine = create(using.postgres_url.get_secret_value(), application_name="earful-cli", pool_size=1)
        try:
            async with engine.begin() as connection:
                return await work(connection)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def explained(err: BaseException | None) -> tuple[str, int]:
    """A sentence for an error of Postgres, and the exit code."""
    said = " ".join(str(err).partition("\n")[0].removeprefix("connection failed: ").split())
    state = getattr(err, "sqlstate", None)
    no_role = state == "22023" and '"earful_analyst" does not exist' in said
    if state in ("42P01", "3F000") or no_role:  # undefined table, invalid schema name
        return "this database has no Earful schema, or an older one: run `earful migrate`", FAILED
    if state == "42501":
        return f'this login may not do that ({said}); see "Least rights" in docs/own-servers.md', FAILED
    if isinstance(err, psycopg.OperationalError) and state is None:
        if postgres_refuses(str(err)):
            return f"Postgres refuses the connection: {said}", FAILED
        return f"Postgres does not answer: {said}. `earful up` starts the local one.", UNAVAILABLE
    return f"Postgres: {said}", FAILED


def require_kafka(using: Settings, *topics: str) -> None:
    """End the command with one sentence where Kafka is away, does not let us in, or lacks a topic."""
    try:
        asyncio.run(check_access(using))
    except AccessRefused as err:
        fail(str(err))
    except Transient as err:
        fail(f"{err}. `earful up` starts the local one.", UNAVAILABLE)
    if topics:
        require_topics(using, *topics)


def require_topics(using: Settings, *topics: str) -> None:
    """End the command with one sentence where Kafka, which lets us in, lacks a topic or does not tell of it."""
    try:
        asyncio.run(topic_ids(using, list(topics)))
    except (AccessRefused, NoTopic) as err:
        fail(str(err))
    except Transient as err:
        fail(str(err), UNAVAILABLE)


def watched(items: Sequence[T], what: str) -> Iterable[T]:
    """The items, with a bar that moves as they are taken; in a pipe without."""
    return track(items, what, console=errors, transient=True, disable=not errors.is_terminal)


def print_json(value: Any) -> None:
    """For programs: nothing but JSON on standard output."""
    typer.echo(json.dumps(of_json(value), indent=2, default=str))


def of_json(value: Any) -> Any:
    """Numbers as numbers, what is no number as null, times as RFC 3339."""
    if isinstance(value, Mapping):
        return {name: of_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [of_json(one) for one in value]
    if isinstance(value, Decimal):
        value = int(value) if value.is_finite() and value == int(value) else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else value


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], whole: str = "") -> None:
    """No cell is cut: a terminal folds all but the column `whole`; in a pipe a line is as long as it has to be."""
    table = Table(box=None)
    for name in columns:
        table.add_column(escape(name), overflow="fold", no_wrap=name == whole)
    for row in rows:
        table.add_row(*(escape(clean(cell, keep="\n") if console.is_terminal else cell) for cell in row))
    if not console.is_terminal:
        table.width = console.measure(table, options=console.options.update(max_width=1_000_000)).maximum
    console.print(table, crop=False)
