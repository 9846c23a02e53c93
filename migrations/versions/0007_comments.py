"""Comments alone: what times of mentions and reviews hold, when a chunk is late, which states a call's audio has, who speaks.

Revision ID: 0007
Revises: 0006

A downgrade puts the earlier comments back.
"""

from __future__ import annotations

from alembic import op

from migrations.script import restore_comments, run_file

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = (
    *(f"ingest.{table}.{name}" for table in ("aspect_mentions", "reviews") for name in ("infer_ms", "queue_ms")),
    "ingest.calls.late_chunks",
    "ingest.calls.state",
    "ingest.call_runs.state",
    "ingest.attempts.attempts",
    "ingest.attempts",
)
VIEWS = (
    *(f"analytics_v1.{view}.{name}" for view in ("aspect_mentions_by_run", "aspect_mentions", "reviews")
      for name in ("infer_ms", "queue_ms")),
    "analytics_v1.calls.late_chunks",
    "analytics_v1.calls.state",
    "analytics_v1.completeness.late_chunks",
    "analytics_v1.aspect_mentions_by_run",
    "analytics_v1.aspect_mentions",
)  # fmt: skip


def upgrade() -> None:
    """Say what is."""
    op.execute("SET LOCAL ROLE earful_owner")
    run_file("0007_comments.sql")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """The comments of revision 0006."""
    op.execute("SET LOCAL ROLE earful_owner")
    restore_comments(TABLES, "0001_tables.sql")
    restore_comments(VIEWS, "0001_views.sql")
    restore_comments(["analytics_v1.completeness.other_terminal"], "0005_review_completeness.sql")
    op.execute("RESET ROLE")
