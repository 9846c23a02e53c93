"""Which revision of the schema this code works with."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from errors import EarfulError

__all__ = ["REVISION", "SchemaMismatch", "check", "describe", "revision_of"]

REVISION = "0007"
"""The newest migration; a test holds it equal to Alembic's head."""


class SchemaMismatch(EarfulError):
    """The database has another revision of the schema than this worker; migrate it, or update the worker."""

    def __init__(self, found: str | None, wanted: str) -> None:
        super().__init__(found, wanted)
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return describe(self.found, self.wanted)


def describe(found: str | None, wanted: str) -> str:
    """One sentence: both revisions, and what to do."""
    if found is None:
        return f"The database has no Earful schema and this Earful needs revision {wanted}: run `earful migrate`."
    if found < wanted:
        return f"The database is at revision {found} and this Earful needs {wanted}: run `earful migrate`."
    return (
        f"The database is at revision {found}, newer than the {wanted} this Earful knows: update Earful on this"
        " machine (then `earful migrate` has nothing to do)."
    )


def revision_of(conn: sa.Connection) -> str | None:
    """The revision of the database; None where there is no schema."""
    if conn.execute(sa.text("SELECT to_regclass('ingest.schema_version')")).scalar_one() is None:
        return None
    found: str | None = conn.execute(sa.text("SELECT version_num FROM ingest.schema_version")).scalar_one_or_none()
    return found


async def check(conn: AsyncConnection) -> None:
    """Refuse to work with another schema. Raises SchemaMismatch."""
    found = await conn.run_sync(revision_of)
    if found != REVISION:
        raise SchemaMismatch(found, REVISION)
