"""Connections whose failures are Transient, because nothing was committed yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import Transient

__all__ = ["reading"]


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection; Postgres away, a broken connection or a lock timeout become Transient. Rolled back unless committed inside."""
    try:
        async with engine.connect() as connection:
            yield connection
    except (OperationalError, InterfaceError, PoolTimeout) as err:
        raise Transient(f"Postgres does not answer ({type(err).__name__})") from err
    except DBAPIError as err:
        if not err.connection_invalidated:
            raise
        raise Transient("the connection to Postgres broke") from err
