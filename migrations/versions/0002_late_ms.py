"""How much audio came too late: `late_ms` of a call, beside the number of chunks.

Revision ID: 0002
Revises: 0001

A downgrade drops the column with its figures; the two views that stood on it are made again as they were.
"""

from __future__ import annotations

from alembic import op

from migrations.script import restore_views, run_file

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

VIEWS = ("analytics_v1.calls", "analytics_v1.completeness")


def upgrade() -> None:
    """Add the column, and show it to analysts."""
    op.execute("SET LOCAL ROLE earful_owner")
    run_file("0002_late_ms.sql")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """The views and the table of revision 0001."""
    op.execute("SET LOCAL ROLE earful_owner")
    for view in reversed(VIEWS):
        op.execute(f"DROP VIEW {view}")
    op.execute("ALTER TABLE ingest.calls DROP COLUMN late_ms")
    restore_views(VIEWS, "0001_views.sql")
    op.execute("RESET ROLE")
