"""Engines: psycopg 3 under SQLAlchemy, with the limits that keep one stuck statement from stopping a worker."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from psycopg.types.array import ListBinaryDumper
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

__all__ = ["create", "driver_url"]


def driver_url(url: str) -> sa.URL:
    """A postgresql:// URL with our driver; query parameters (sslmode, sslrootcert, ...) go to libpq."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError(f"not a Postgres URL: {parsed.render_as_string(hide_password=True)}")
    return parsed.set(drivername="postgresql+psycopg")


def create(
    url: str,
    *,
    application_name: str = "earful",
    pool_size: int = 4,
    overflow: int = 0,
    idle_in_transaction_seconds: float = 120.0,
    pool_timeout_seconds: float = 30.0,
) -> AsyncEngine:
    """An async engine; each connection says who it is and gives up on slow statements, locks and dead peers.

    `pool_size` connections are kept; `overflow` more may be open while there is work for them.
    """
    engine = create_async_engine(
        driver_url(url),
        pool_pre_ping=True,
        hide_parameters=True,  # an error must not carry what somebody said
        pool_size=pool_size,
        max_overflow=overflow,
        # The connection used last comes first: few are at work, and theirs are the prepared plans and the grown buffers.
        pool_use_lifo=True,
        pool_timeout=pool_timeout_seconds,
        connect_args={
            "application_name": application_name,
            "connect_timeout": 10,
            # A peer that is gone without a word is noticed within 30 + 3 * 10 s, and its locks are freed.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "options": (
                "-c statement_timeout=30s -c lock_timeout=10s"
                f" -c idle_in_transaction_session_timeout={int(idle_in_transaction_seconds * 1000)}"
                " -c TimeZone=UTC"
            ),
        },
    )
    sa.event.listen(engine.sync_engine, "connect", _send_lists_binary)
    return engine


def _send_lists_binary(connection: Any, _: object) -> None:
    """psycopg sends a list as text and looks for quotes in every element: a hundred times the work, twice the bytes."""
    connection.driver_connection.adapters.register_dumper(list, ListBinaryDumper)
