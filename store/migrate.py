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
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from store import partitions
from store.engine import driver_url
from store.fact_tables import PARTITIONED
from store.schema import REVISION, SchemaMismatch
from store.tables import metadata

__all__ = [
    "AHEAD_MONTHS",
    "FIRST_MONTH",
    "VERSION_SCHEMA",
    "VERSION_TABLE",
    "current",
    "differences",
    "downgrade",
    "head",
    "include_object",
    "upgrade",
]

VERSION_SCHEMA = "ingest"
VERSION_TABLE = "schema_version"

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
            found = _revision(conn)
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
            return _revision(conn)


def current(url: str) -> str | None:
    """The revision of the database; None before the first migration."""
    with _connection(url) as conn, conn.begin():
        return _revision(conn)


def head() -> str | None:
    """The newest revision in migrations/."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def differences(url: str) -> list[object]:
    """What autogenerate would change: nothing, if the migrations and store's tables agree."""
    with _connection(url) as conn, conn.begin():
        context = MigrationContext.configure(
            conn,
            opts={
                "version_table": VERSION_TABLE,
                "version_table_schema": VERSION_SCHEMA,
                "include_schemas": True,
                "include_object": include_object,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        return list(compare_metadata(context, metadata))


def include_object(item: sa.schema.SchemaItem, name: str | None, kind: str, reflected: bool, _: object) -> bool:
    """Keep autogenerate off partitions and their indexes; it does not see views."""
    if kind == "table" and reflected and isinstance(item, sa.Table):
        parents = {f"{t.schema}.{t.name}" for t in PARTITIONED}
        return f"{item.schema}.{(name or '').rpartition('_p')[0]}" not in parents
    return True


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


def _config(conn: sa.Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    return config


def _revision(conn: sa.Connection) -> str | None:
    if conn.execute(sa.text(f"SELECT to_regclass('{VERSION_SCHEMA}.{VERSION_TABLE}')")).scalar_one() is None:
        return None
    found: str | None = conn.execute(
        sa.text(f"SELECT version_num FROM {VERSION_SCHEMA}.{VERSION_TABLE}")
    ).scalar_one_or_none()
    return found


def _ahead(today: date) -> date:
    return partitions.months(today, date(today.year + AHEAD_MONTHS // 12 + 1, 1, 1))[AHEAD_MONTHS]
