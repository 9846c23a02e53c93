"""Alembic's environment. store.migrate hands over the connection; there is no alembic.ini."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

connection: sa.Connection = context.config.attributes["connection"]
connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS ingest"))
# Where store.schema looks.
context.configure(connection=connection, version_table="schema_version", version_table_schema="ingest")
with context.begin_transaction():
    context.run_migrations()
