"""Alembic's environment. store.migrate hands over the connection; there is no alembic.ini."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from store.migrate import VERSION_SCHEMA, VERSION_TABLE, include_object
from store.tables import metadata

connection: sa.Connection = context.config.attributes["connection"]
connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {VERSION_SCHEMA}"))
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    version_table_schema=VERSION_SCHEMA,
    include_schemas=True,
    include_object=include_object,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
