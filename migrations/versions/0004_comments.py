"""Comments alone: the finish reasons of an utterance and the methods of a summary, Phi-4's among them.

Revision ID: 0004
Revises: 0003

A downgrade puts the comments of revision 0001 back.
"""

from __future__ import annotations

from alembic import op

from migrations.script import restore_comments, run_file

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say what there is."""
    op.execute("SET LOCAL ROLE earful_owner")
    run_file("0004_comments.sql")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """The comments of revision 0003."""
    op.execute("SET LOCAL ROLE earful_owner")
    restore_comments(["ingest.utterances.finish_reason", "ingest.summaries.method"], "0001_tables.sql")
    views = ("utterances_by_run.finish_reason", "utterances.finish_reason", "summaries.method")
    restore_comments([f"analytics_v1.{one}" for one in views], "0001_views.sql")
    op.execute("RESET ROLE")
