"""Migrations without an alembic.ini: the same calls from the repository and from an installed wheel.

Each call opens its own connection as the URL's user, who needs CREATE on the database and, the first time, the right
to create roles. One migration runs at a time; the second waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from store import partitions
from store.engine import driver_url
from store.schema import REVISION, SchemaMismatch, revision_of

__all__ = ["AHEAD_MONTHS", "FIRST_MONTH", "downgrade", "upgrade"]

FIRST_MONTH = date(2020, 1, 1)
"""The oldest month that gets a partition without being asked for."""

AHEAD_MONTHS = 24
"""Months after this one that get partitions: a deployment that migrates once a year never runs out."""

_LOCK_ID = 0x65617266756C0003  # "earful", 3


def upgrade(url: str, *, from_month: date = FIRST_MONTH, to_month: date | None = None) -> str:
    """Bring the database to the newest revision and create the partitions; the revision.

    `to_month`: default AHEAD_MONTHS after this month. Again is harmless. Raises SchemaMismatch if the database is
    newer than this code.
    """
    with _connection(url) as conn:
        with conn.begin():
            found = revision_of(conn)
            if found is not None and found > REVISION:
                raise SchemaMismatch(found, REVISION)
            command.upgrade(_config(conn), "head")
        last = to_month or _ahead(datetime.now(UTC).date())
        # A year at a time, outwards from what is there: Postgres has some 6,400 locks for all open transactions, and
        # a month takes about 35.
        starts = partitions.months(from_month, last)[::12]
        with conn.begin():
            older = any(m > from_month for m in partitions.existing(conn))
        for first in reversed(starts) if older else starts:
            with conn.begin():
                partitions.ensure(conn, first, min(last, date(first.year + 1, first.month, 1)))
        return REVISION


def downgrade(url: str, revision: str = "base") -> str | None:
    """Go back to an older revision; `base` removes everything with all data. The revision then."""
    with _connection(url) as conn:
        if revision == "base":
            while True:
                with conn.begin():
                    if partitions.drop_oldest(conn, 12) == 0:
                        break
        with conn.begin():
            command.downgrade(_config(conn), revision)
            return revision_of(conn)


@contextmanager
def _connection(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(
        driver_url(url),
        poolclass=sa.NullPool,
        connect_args={"application_name": "earful migrate", "options": "-c TimeZone=UTC"},
    )
    try:
        with engine.connect() as conn:
            with conn.begin():  # held by the session: a migration is several transactions
                conn.execute(sa.text("SELECT pg_advisory_lock(CAST(:lock AS bigint))"), {"lock": _LOCK_ID})
            yield conn
    finally:
        engine.dispose()


def _config(conn: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    return config


def _ahead(today: date) -> date:
    return partitions.months(today, date(today.year + AHEAD_MONTHS // 12 + 1, 1, 1))[AHEAD_MONTHS]
