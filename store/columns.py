"""How a table of ours is written: every column has a comment with its unit and range, and `define` refuses one without."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa

__all__ = ["AWARE", "COMMITTED", "column", "define", "metadata"]

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)

AWARE = sa.DateTime(timezone=True)
COMMITTED = sa.text("clock_timestamp()")


def define(
    name: str,
    *parts: sa.schema.SchemaItem,
    comment: str,
    schema: str = "ingest",
    postgresql_partition_by: str | None = None,
) -> sa.Table:
    """A table of ours. Raises TypeError for a column without a comment."""
    table: sa.Table = sa.Table(
        name, metadata, *parts, schema=schema, comment=comment, postgresql_partition_by=postgresql_partition_by
    )
    for one in table.columns:
        if not one.comment:
            raise TypeError(f"{schema}.{name}.{one.name} has no comment")
    return table


def column(
    name: str,
    kind: type[sa.types.TypeEngine[Any]] | sa.types.TypeEngine[Any],
    comment: str,
    *parts: sa.schema.SchemaItem,
    primary_key: bool = False,
    nullable: bool = False,
    autoincrement: bool | Literal["auto"] = "auto",
    server_default: sa.ColumnElement[Any] | sa.TextClause | str | None = None,
) -> sa.Column[Any]:
    """A column, not null unless it says so, with its meaning, unit and range."""
    return sa.Column(
        name,
        kind,
        *parts,
        comment=comment,
        primary_key=primary_key,
        nullable=nullable,
        autoincrement=autoincrement,
        server_default=server_default,
    )
