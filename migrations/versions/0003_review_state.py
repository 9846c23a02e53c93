"""What became of a review: `state`, analysed or unsupported_language.

Revision ID: 0003
Revises: 0002

A downgrade drops the column; the two views that stood on it are made again as they were.
"""

from __future__ import annotations

from alembic import op

from migrations.script import restore_views, run_file

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

VIEWS = ("analytics_v1.reviews", "analytics_v1.freshness")  # the second stands on the first


def upgrade() -> None:
    """Add the column, and show it to analysts."""
    op.execute("SET LOCAL ROLE earful_owner")
    run_file("0003_review_state.sql")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """The views and the table of revision 0002."""
    op.execute("SET LOCAL ROLE earful_owner")
    for view in reversed(VIEWS):
        op.execute(f"DROP VIEW {view}")
    op.execute("ALTER TABLE ingest.reviews DROP COLUMN state")
    restore_views(VIEWS, "0001_views.sql")
    op.execute("RESET ROLE")
