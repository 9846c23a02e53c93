"""What became of a review: `state`, analysed or unsupported_language.

Revision ID: 0003
Revises: 0002

A downgrade drops the column; the two views that stood on it are made again as they were.
"""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

VIEWS = ("analytics_v1.reviews", "analytics_v1.freshness")  # the second stands on the first


def upgrade() -> None:
    """Add the column, and show it to analysts."""
    op.execute("SET LOCAL ROLE earful_owner")
    _run(_read("0003_review_state.sql"))
    op.execute("RESET ROLE")


def downgrade() -> None:
    """The views and the table of revision 0002."""
    op.execute("SET LOCAL ROLE earful_owner")
    for view in reversed(VIEWS):
        op.execute(f"DROP VIEW {view}")
    op.execute("ALTER TABLE ingest.reviews DROP COLUMN state")
    before = {part.split()[0]: part for part in _read("0001_views.sql").split("CREATE VIEW ")[1:]}
    for view in VIEWS:
        _run(f"CREATE VIEW {before[view]}")
        op.execute(f"GRANT SELECT ON {view} TO earful_ingest, earful_analyst")
    op.execute("RESET ROLE")


def _read(name: str) -> str:
    return files("migrations").joinpath("sql", name).read_text(encoding="utf-8")


def _run(sql: str) -> None:
    # Without parameters psycopg takes several statements at once, and a percent sign means itself.
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(sql)
