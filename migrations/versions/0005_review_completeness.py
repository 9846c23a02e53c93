"""`completeness` counts a review in unsupported_language as such, no longer as analysed.

Revision ID: 0005
Revises: 0004

The view alone, with the columns it had: nothing that reads or writes the tables of revision 0004 notices. A downgrade
makes the view again as it was.
"""

from __future__ import annotations

from alembic import op

from migrations.script import restore_views, run_file

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

VIEWS = ("analytics_v1.completeness",)


def upgrade() -> None:
    """Count by what became of a review."""
    op.execute("SET LOCAL ROLE earful_owner")
    run_file("0005_review_completeness.sql")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """The view of revision 0001."""
    op.execute("SET LOCAL ROLE earful_owner")
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    restore_views(VIEWS, "0001_views.sql")
    op.execute("RESET ROLE")
