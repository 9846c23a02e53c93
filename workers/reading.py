"""Connections whose failures are Transient, because nothing was committed yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import Transient

__all__ = ["reading"]


def first_line(err: SQLAlchemyError) -> str:
    """What the driver said: host, user or certificate, never a value (the engines hide parameters)."""
    cause = err.orig if isinstance(err, DBAPIError) else err
    return " ".join(str(cause).partition("\n")[0].split()) or type(err).__name__


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection; Postgres away, a broken connection or a lock timeout become Transient. Rolled back unless committed inside."""
    try:
        async with engine.connect() as connection:
            yield connection
    except (OperationalError, InterfaceError, PoolTimeout) as err:
        raise Transient(f"Postgres does not answer: {first_line(err)}") from err
    except DBAPIError as err:
        if not err.connection_invalidated:
            raise
        raise Transient("the connection to Postgres broke") from err
