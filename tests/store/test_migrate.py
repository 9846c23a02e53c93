"""Migrations: up, down, up; the tables in Python are the tables in Postgres; a worker refuses another schema."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from speech.contract import FinishReason
from store import engine as engines
from store import facts, migrate, partitions, schema
from store.fact_tables import PARTITIONED
from store.schema import REVISION, SchemaMismatch, revision_of
from store.tables import metadata
from tests.store.conftest import FIRST, LAST
from tests.store.make import review, utterance
from workers.extractive import METHOD

ROOT = Path(__file__).parents[2]
NewDatabase = Callable[[str | None], str]


def objects(url: str) -> list[str]:
    """Every table, view, index and sequence of ours, partitions too."""
    with psycopg.connect(url) as conn:
        rows = conn.execute(
            "SELECT relnamespace::regnamespace::text || '.' || relname || ' ' || relkind::text FROM pg_class WHERE relnamespace"
            " IN (SELECT oid FROM pg_namespace WHERE nspname IN ('ingest', 'pii', 'analytics_v1')) ORDER BY 1"
        )
        return [r[0] for r in rows]


def current(url: str) -> str | None:
    with migrate._connection(url) as conn, conn.begin():
        return revision_of(conn)


def differences(url: str) -> list[object]:
    """What autogenerate would change: nothing, if the migrations and store's tables agree."""
    with migrate._connection(url) as conn, conn.begin():
        options = {"include_schemas": True, "include_object": ours, "compare_server_default": True}
        context = MigrationContext.configure(conn, opts=options)
        return list(compare_metadata(context, metadata))


def ours(item: sa.schema.SchemaItem, name: str | None, kind: str, reflected: bool, _: object) -> bool:
    """Alembic's own table is none of ours, nor are partitions; autogenerate does not see views."""
    if kind == "table" and reflected and isinstance(item, sa.Table):
        parents = {f"{t.schema}.{t.name}" for t in PARTITIONED}
        return name != "schema_version" and f"{item.schema}.{(name or '').rpartition('_p')[0]}" not in parents
    return True


def test_up_down_up(new_database: NewDatabase) -> None:
    url = new_database(None)
    assert current(url) is None
    assert migrate.upgrade(url, from_month=FIRST, to_month=FIRST) == REVISION
    first = objects(url)
    assert current(url) == REVISION
    assert migrate.downgrade(url) is None
    assert objects(url) == ["ingest.schema_version r", "ingest.schema_version_pkc i"]
    migrate.upgrade(url, from_month=FIRST, to_month=FIRST)
    assert objects(url) == first
    assert migrate.upgrade(url, from_month=FIRST, to_month=FIRST) == REVISION
    assert objects(url) == first


def test_autogenerate_finds_nothing_to_change(url: str) -> None:
    assert differences(url) == []


def test_autogenerate_finds_a_change(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("ALTER TABLE ingest.calls ADD COLUMN stray int")
        conn.execute("COMMENT ON COLUMN ingest.runs.spec IS 'something else'")
        conn.execute("CREATE TABLE ingest.stray (id int)")
    assert len(differences(url)) == 3


def test_every_table_and_column_has_its_comment(url: str) -> None:
    with psycopg.connect(url) as conn:
        rows = conn.execute(
            "SELECT c.relnamespace::regnamespace::text || '.' || c.relname, a.attname, col_description(c.oid, a.attnum),"
            " obj_description(c.oid) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
            " WHERE c.relnamespace::regnamespace::text IN ('ingest', 'pii') AND c.relkind IN ('r', 'p')"
            " AND NOT c.relispartition AND c.relname <> 'schema_version' AND NOT a.attisdropped"
        ).fetchall()
    assert {r[0] for r in rows} == set(metadata.tables)
    assert [r for r in rows if not r[2] or not r[3]] == []


def test_the_code_knows_the_newest_revision() -> None:
    assert max(one.name[:4] for one in (ROOT / "migrations" / "versions").glob("[0-9]*.py")) == REVISION


def described(url: str) -> list[tuple[object, ...]]:
    """Columns, defaults, comments, rights, constraints and the text of views, but of partitions."""
    with psycopg.connect(url) as conn:
        columns = conn.execute(
            "SELECT c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,"
            " pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum), obj_description(c.oid),"
            " pg_get_userbyid(c.relowner), (SELECT string_agg(one::text, ' ' ORDER BY one::text) FROM unnest(c.relacl) one)"
            " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
            " WHERE c.relnamespace::regnamespace::text IN ('ingest', 'pii', 'analytics_v1') AND NOT c.relispartition"
        ).fetchall()
        more = conn.execute(
            "SELECT c.oid::regclass::text, pg_get_viewdef(c.oid) FROM pg_class c WHERE c.relkind = 'v'"
            " AND c.relnamespace = 'analytics_v1'::regnamespace UNION ALL"
            " SELECT conrelid::regclass::text, conname || ' ' || pg_get_constraintdef(t.oid) FROM pg_constraint t"
            " JOIN pg_class c ON c.oid = conrelid AND NOT c.relispartition"
            " WHERE connamespace::regnamespace::text IN ('ingest', 'pii')"
        ).fetchall()
    return sorted([*columns, *more], key=str)


def test_each_step_down_and_up_again(new_database: NewDatabase) -> None:
    """Each revision is the same whether it was reached from below or from above."""
    revisions = [f"{number:04}" for number in range(1, int(REVISION) + 1)]
    reached: dict[str, list[tuple[object, ...]]] = {}
    fresh = new_database(None)
    for revision in revisions:
        with migrate._connection(fresh) as conn, conn.begin():
            command.upgrade(migrate._config(conn), revision)
        reached[revision] = described(fresh)
    assert len({str(one) for one in reached.values()}) == len(revisions)
    url = new_database(None)
    migrate.upgrade(url, from_month=FIRST, to_month=FIRST)
    assert described(url) == reached[REVISION]
    for revision in reversed(revisions[:-1]):
        assert migrate.downgrade(url, revision) == revision
        assert described(url) == reached[revision], f"down to {revision}"
    for revision in revisions[1:]:
        with migrate._connection(url) as conn, conn.begin():
            command.upgrade(migrate._config(conn), revision)
        assert described(url) == reached[revision], f"up again to {revision}"


def test_the_comments_name_every_finish_reason_and_method() -> None:
    stored = set(FinishReason) - {FinishReason.CANCELLED}
    assert set(re.findall(r"[a-z_]{3,}", str(metadata.tables["ingest.utterances"].c.finish_reason.comment))) == stored
    methods = re.findall(r"[a-z0-9-]+-v1", str(metadata.tables["ingest.summaries"].c.method.comment))
    summary = (ROOT / "speech" / "phi4" / "summary.py").read_text("utf-8")
    assert set(methods) == {METHOD, *re.findall(r'_METHOD = "([^"]+)"', summary)}


async def test_a_worker_accepts_its_own_schema(conn: AsyncConnection) -> None:
    await schema.check(conn)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ("0000", f"The database is at revision 0000 and this Earful needs {REVISION}: run `earful migrate`."),
        (
            "9999",
            f"The database is at revision 9999, newer than the {REVISION} this Earful knows: update Earful on this"
            " machine (then `earful migrate` has nothing to do).",
        ),
    ],
)
async def test_a_worker_refuses_another_schema(conn: AsyncConnection, found: str, sentence: str) -> None:
    await conn.execute(sa.text("UPDATE ingest.schema_version SET version_num = :v"), {"v": found})
    with pytest.raises(SchemaMismatch) as caught:
        await schema.check(conn)
    assert str(caught.value) == sentence


async def test_a_worker_refuses_an_empty_database(new_database: NewDatabase) -> None:
    engine = engines.create(new_database(None))
    async with engine.connect() as conn:
        with pytest.raises(SchemaMismatch, match=r"no Earful schema.*`earful migrate`"):
            await schema.check(conn)
    await engine.dispose()


def test_migrate_refuses_a_newer_schema(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE ingest.schema_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="9999"):
        migrate.upgrade(url)


async def test_partitions_have_bounds_and_grow_without_gaps(conn: AsyncConnection) -> None:
    low, high = await partitions.bounds(conn)
    assert (low.isoformat(), high.isoformat()) == ("2026-01-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00")
    for first, last in ((FIRST, LAST), (date(2027, 3, 9), date(2027, 3, 9)), (date(2025, 12, 31), date(2025, 12, 31))):
        await conn.run_sync(partitions.ensure, first, last)
    low, high = await partitions.bounds(conn)
    assert (low.date(), high.date()) == (date(2025, 12, 1), date(2027, 4, 1))
    owners = await conn.execute(
        sa.text("SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relispartition AND relname ~ '_p2'")
    )
    assert owners.scalars().all() == ["earful_owner"]
    for wrong in ((date(2026, 2, 1), date(2026, 1, 1)), (date(1970, 1, 1), date(2026, 1, 1))):
        with pytest.raises(ValueError, match="months"):
            await conn.run_sync(partitions.ensure, *wrong)


async def test_a_month_that_only_some_facts_have_is_said(conn: AsyncConnection) -> None:
    await conn.execute(sa.text("DROP TABLE ingest.reviews_p202601"))
    with pytest.raises(partitions.MonthsMissing, match=r"ingest\.reviews lacks 2026-01\): a month is dropped from all"):
        await partitions.bounds(conn)


async def test_the_first_and_the_last_instant_of_the_bounds(conn: AsyncConnection) -> None:
    low, high = await partitions.bounds(conn)
    await facts.insert_utterances(conn, [utterance(call_started_at=low)])
    with pytest.raises(IntegrityError, match="no partition"):
        await facts.insert_reviews(conn, [review(created_at=high)])


def test_more_history_is_migrated_in_steps(new_database: NewDatabase) -> None:
    url = new_database(None)
    migrate.upgrade(url, from_month=date(2026, 6, 1), to_month=date(2026, 7, 1))
    migrate.upgrade(url, from_month=date(2024, 2, 1), to_month=date(2026, 9, 1))
    children = [o for o in objects(url) if o.startswith("ingest.utterances_p") and o.endswith(" r")]
    assert len(children) == 32
    assert len(PARTITIONED) == 7


def test_an_installed_wheel_migrates(new_database: NewDatabase, tmp_path: Path) -> None:
    """Away from the repository, from the files that a wheel holds."""
    source, wheels, installed = tmp_path / "source", tmp_path / "wheels", tmp_path / "installed"
    for name in ("store", "migrations"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "errors.py", "cli.py", "settings.py"):
        shutil.copy(ROOT / name, source)
    (source / "README.md").touch()
    wheels.mkdir()
    build = f"from setuptools import build_meta; print(build_meta.build_wheel({str(wheels)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    url = new_database(None)
    call = f"from store import migrate; print(migrate.__file__, migrate.upgrade({url!r}, to_month=migrate.FIRST_MONTH))"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=installed, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(installed / "store" / "migrate.py"), REVISION]
