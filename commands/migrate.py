"""`earful migrate`: the schema."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from commands.context import console, explained, fail, settings
from errors import EarfulError
from store import migrate as migrations

__all__ = ["migrate"]


def migrate() -> None:
    """Bring Postgres to this version's schema and add the coming months' partitions.

    Example: EARFUL_POSTGRES_URL=postgresql://earful@db/earful earful migrate
    """
    try:
        revision = migrations.upgrade(settings().postgres_url.get_secret_value())
    except EarfulError as err:  # SchemaMismatch, MonthsMissing
        fail(str(err))
    except DBAPIError as err:
        fail(*explained(err.orig))
    console.print(f"schema {revision}")
