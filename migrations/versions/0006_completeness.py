"""`completeness` counts each review once, and calls of which every record was refused.

Revision ID: 0006
Revises: 0005

The view alone, with the columns it had: nothing that reads or writes the tables of revision 0005 notices. A downgrade
makes the view again as it was.
"""

from __future__ import annotations

from alembic import op

from migrations.script import run_file

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

CALLS = (
    "COMMENT ON VIEW analytics_v1.calls IS"
    " 'Grain: one row per call, whatever became of it; its state as of the current run.'"
)


def upgrade() -> None:
    """Count what has a head once, and what has no row at all."""
    op.execute("SET LOCAL ROLE earful_owner")
    run_file("0006_completeness.sql")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """The view of revision 0005."""
    op.execute("SET LOCAL ROLE earful_owner")
    run_file("0005_review_completeness.sql")
    op.execute(CALLS)
    op.execute("RESET ROLE")
