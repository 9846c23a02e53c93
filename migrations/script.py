"""What the revisions share: the SQL of a file, and views and comments made again as an earlier file has them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from alembic import op

__all__ = ["restore_comments", "restore_views", "run_file"]


def run_file(name: str) -> None:
    """Runs migrations/sql/`name`, any number of statements."""
    _run(_read(name))


def restore_views(views: Sequence[str], name: str) -> None:
    """Makes `views` (schema.view, in the order in which they stand on each other) as `name` has them, with their grants."""
    before = {part.split()[0]: part for part in _read(name).split("CREATE VIEW ")[1:]}
    for view in views:
        _run(f"CREATE VIEW {before[view]}")
        op.execute(f"GRANT SELECT ON {view} TO earful_ingest, earful_analyst")


def restore_comments(things: Sequence[str], name: str) -> None:
    """Gives `things` (schema.table, or schema.table.column; views likewise) the comments that `name` gives them."""
    lines = [line for line in _read(name).splitlines() if line.startswith("COMMENT ON ")]
    comments = {line.split()[3].replace('"', ""): line for line in lines}
    for thing in things:
        _run(comments[thing])


def _read(name: str) -> str:
    return files("migrations").joinpath("sql", name).read_text(encoding="utf-8")


def _run(sql: str) -> None:
    # Without parameters psycopg takes several statements at once, and a percent sign means itself.
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(sql)
