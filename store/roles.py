"""Logins: people and programs join one of the group roles that the migration made."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["ANALYST_TIMEOUT_SECONDS", "create_login"]

ANALYST_TIMEOUT_SECONDS = 60
"""An analyst's statement ends here: long enough for a year of facts, short enough to spare the workers."""


async def create_login(
    conn: AsyncConnection, name: str, password: str, group: Literal["earful_ingest", "earful_analyst"]
) -> None:
    """A login in a group; an analyst's statements are read-only and time out.

    Postgres takes such settings from the login itself, never from its groups, so they are set here. Needs the right
    to create roles. Raises sqlalchemy.exc.ProgrammingError if the name is taken.
    """
    statements = [
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
            sql.Identifier(name), sql.Literal(password), sql.Identifier(group)
        )
    ]
    if group == "earful_analyst":
        statements += [
            sql.SQL("ALTER ROLE {} SET statement_timeout = {}").format(
                sql.Identifier(name), sql.Literal(f"{ANALYST_TIMEOUT_SECONDS}s")
            ),
            sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(sql.Identifier(name)),
            sql.SQL("ALTER ROLE {} SET search_path = analytics_v1").format(sql.Identifier(name)),
            sql.SQL("ALTER ROLE {} SET TimeZone = 'UTC'").format(sql.Identifier(name)),
        ]
    for statement in statements:
        await conn.execute(sa.text(statement.as_string().replace(":", "\\:")))
