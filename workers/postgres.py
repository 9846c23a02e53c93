"""Connections to Postgres. What fails there is Transient where it passes by itself: nothing was committed yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import AccessRefused, EarfulError, Transient

__all__ = ["SchemaChanged", "connected", "first_line", "postgres_refuses"]

#: Classes of SQLSTATE that pass by themselves: the connection, a transaction rolled back for others' sake, resources, an
#: object in use, an operator, the system below.
PASSING = frozenset({"08", "40", "53", "55", "57", "58"})
#: A server that is only just promoted; a right that was taken away, and that nothing but giving it back will mend: the log
#: says which, and meanwhile nothing is dropped.
MENDED = frozenset({"25006", "42501"})
#: A schema, table, column or function that is not there; and a prepared statement whose table has become another.
CHANGED = frozenset({"3F000", "42P01", "42703", "42883", "0A000"})
NO_PARTITION = "no partition of relation"

#: What Postgres and its driver say of a connection that no waiting opens; they give no code there. In another language than
#: English such a connection is waited for, and the log says why.
REFUSALS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "does not exist",
    "not permitted to log in",
    "permission denied for database",
    "certificate",
    "does not support SSL",
)


class SchemaChanged(EarfulError):
    """Somebody migrates the database under this worker: leave; the next start asks which schema it is."""


def first_line(err: SQLAlchemyError) -> str:
    """What the driver said: host, user or certificate, never a value (the engines hide parameters)."""
    cause = err.orig if isinstance(err, DBAPIError) else err
    return " ".join(str(cause).partition("\n")[0].split()) or type(err).__name__


def postgres_refuses(said: str) -> bool:
    """Whether this message of psycopg means that Postgres does not let us in."""
    return said.startswith("connection failed") and any(one in said for one in REFUSALS)


def passes(err: DBAPIError) -> bool:
    """Whether the same statement may succeed later. What Postgres gave no SQLSTATE never reached it."""
    state: str | None = getattr(err.orig, "sqlstate", None)
    if state is None:
        return isinstance(err, OperationalError | InterfaceError)
    return state[:2] in PASSING or state in MENDED


@asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection, rolled back unless committed inside.

    Raises Transient for what passes by itself: Postgres away, a broken connection, a lock timeout, a full pool or disk;
    AccessRefused where Postgres does not let us in, SchemaChanged. Any other error of a statement stays as it is.
    """
    try:
        async with engine.connect() as connection:
            yield connection
    except PoolTimeout as err:
        raise Transient("every connection to Postgres is in use") from err
    except DBAPIError as err:
        said = first_line(err)
        if postgres_refuses(said):
            raise AccessRefused(f"Postgres refuses the connection: {said}") from err
        state: str | None = getattr(err.orig, "sqlstate", None)
        if state in CHANGED or NO_PARTITION in said:
            raise SchemaChanged(f"the schema is another than at the start: {said}") from err
        if passes(err):
            what = "refuses the statement" if state in MENDED else "does not answer"
            raise Transient(f"Postgres {what}: {said}") from err
        if not err.connection_invalidated:
            raise
        raise Transient("the connection to Postgres broke") from err
