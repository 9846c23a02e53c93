"""The first schema: roles, tables, partitions, views.

Revision ID: 0001
Revises: nothing

A downgrade drops the schemas' contents with all data. The roles (they belong to the cluster), the schema `ingest`
with Alembic's version table, and the extension btree_gist stay.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.script import run_file

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything, as earful_owner where it matters who owns it."""
    run_file("0001_roles.sql")
    # Ships with Postgres and is trusted, so no superuser is needed: it indexes equality beside ranges (verdicts).
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA ingest")
    op.execute("SET LOCAL ROLE earful_owner")
    run_file("0001_tables.sql")
    run_file("0001_views.sql")
    run_file("0001_grants.sql")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Drop everything, with all data."""
    op.execute("DROP SCHEMA analytics_v1 CASCADE")
    op.execute("DROP SCHEMA pii CASCADE")
    tables = op.get_bind().execute(
        sa.text(
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = CAST('ingest' AS regnamespace)"
            " AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'schema_version' ORDER BY 1"
        )
    )
    for name in tables.scalars().all():
        op.execute(f"DROP TABLE ingest.{name} CASCADE")
