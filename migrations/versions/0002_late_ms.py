"""How much audio came too late: `late_ms` of a call, beside the number of chunks.

Revision ID: 0002
Revises: 0001

A downgrade drops the column with its figures; the two views that stood on it are made again as they were.
"""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

VIEWS = ("analytics_v1.calls", "analytics_v1.completeness")


def upgrade() -> None:
    """Add the column, and show it to analysts."""
    op.execute("SET LOCAL ROLE earful_owner")
    _run(_read("0002_late_ms.sql"))
    op.execute("RESET ROLE")


def downgrade() -> None:
    """The views and the table of revision 0001."""
    op.execute("SET LOCAL ROLE earful_owner")
    for view in reversed(VIEWS):
        op.execute(f"DROP VIEW {view}")
    op.execute("ALTER TABLE ingest.calls DROP COLUMN late_ms")
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
