"""What analysts see: every view, nothing else, and the current run only."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import dead_letters, runs
from store import engine as engines
from store.runs import CUT_RUN
from store.tables import metadata
from tests.store.make import ident, letter
from tests.store.seed import seed

VIEWS = [
    "aspect_daily",
    "aspect_mentions",
    "aspect_mentions_by_run",
    "calls",
    "completeness",
    "dead_letters",
    "freshness",
    "reviews",
    "runs",
    "summaries",
    "utterances",
    "utterances_by_run",
]


async def rows(conn: AsyncConnection, query: str) -> list[tuple[object, ...]]:
    return [tuple(r) for r in await conn.execute(sa.text(query))]


async def test_the_analyst_reads_every_view(conn: AsyncConnection) -> None:
    await seed(conn)
    await conn.execute(sa.text("SET LOCAL ROLE earful_analyst"))
    found = await rows(
        conn, "SELECT relname FROM pg_class WHERE relnamespace = 'analytics_v1'::regnamespace ORDER BY relname"
    )
    assert [r[0] for r in found] == VIEWS
    for view in VIEWS:
        assert await rows(conn, f"SELECT * FROM analytics_v1.{view} LIMIT 1"), view


@pytest.mark.parametrize("table", [*sorted(metadata.tables), "ingest.schema_version", "ingest.utterances_p202603"])
async def test_the_analyst_reads_no_table(conn: AsyncConnection, table: str) -> None:
    await conn.execute(sa.text("SET LOCAL ROLE earful_analyst"))
    with pytest.raises(ProgrammingError, match="permission denied"):
        await conn.execute(sa.text(f"SELECT 1 FROM {table}"))


@pytest.mark.parametrize("view", ["calls", "dead_letters", "runs"])
async def test_the_analyst_writes_nothing(conn: AsyncConnection, view: str) -> None:
    await conn.execute(sa.text("SET LOCAL ROLE earful_analyst"))
    with pytest.raises(DBAPIError, match=r"permission denied|cannot delete"):
        await conn.execute(sa.text(f"DELETE FROM analytics_v1.{view}"))


async def test_nobody_else_gets_in_by_default(conn: AsyncConnection) -> None:
    found = await rows(
        conn,
        "SELECT c.relname FROM pg_class c, aclexplode(c.relacl) a WHERE a.grantee = 0 AND c.relnamespace::regnamespace"
        "::text IN ('ingest', 'pii', 'analytics_v1')",
    )
    assert found == []


async def test_views_are_owned_by_no_superuser(conn: AsyncConnection) -> None:
    found = await rows(
        conn,
        "SELECT DISTINCT rolname, rolsuper, rolcanlogin FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner"
        " WHERE c.relnamespace::regnamespace::text IN ('ingest', 'pii', 'analytics_v1')",
    )
    assert found == [("earful_owner", False, False)]


def statements(page: str, login: str) -> list[str]:
    """What a page of docs/ says to make this login with; its password there is three dots."""
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^    ((?:CREATE|ALTER) ROLE {login} .*);$", text, flags=re.MULTILINE)


async def test_logins(engine: AsyncEngine) -> None:
    """An ingest login writes tables; an analyst's statements are read-only and time out."""
    made = {"acme_worker": statements("own-servers.md", "acme_worker"), "ada": statements("sql.md", "ada")}
    assert [len(one) for one in made.values()] == [1, 5]
    async with engine.begin() as conn:
        for statement in (one for several in made.values() for one in several):
            await conn.execute(sa.text(statement))
        await seed(conn)
    url = engine.url.set(drivername="postgresql", password="...")
    try:
        worker = url.set(username="acme_worker").render_as_string(hide_password=False)
        created = engines.create(worker)
        async with created.begin() as conn:
            await conn.execute(sa.text("DELETE FROM ingest.outbox"))
            run = await runs.open_run(conn, {"model": "c"}, make_current=True)
            assert await runs.current(conn) == run.run_id
            assert (await rows(conn, "SHOW lock_timeout")) == [("10s",)]
        async with created.connect() as conn:
            with pytest.raises(ProgrammingError, match="permission denied"):
                await conn.execute(sa.text("UPDATE ingest.schema_version SET version_num = 'x'"))
        await created.dispose()
        analyst = url.set(username="ada").render_as_string(hide_password=False)
        with psycopg.connect(analyst, autocommit=True) as login:
            assert login.execute("SHOW statement_timeout").fetchone() == ("1min",)
            assert login.execute("SHOW TimeZone").fetchone() == ("UTC",)
            assert login.execute("SELECT count(*) FROM calls").fetchone() == (4,)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                login.execute("CREATE TEMP TABLE t AS SELECT * FROM calls")
    finally:
        async with engine.begin() as conn:
            for name in made:
                await conn.execute(sa.text(f"DROP OWNED BY {name}"))
                await conn.execute(sa.text(f"DROP ROLE {name}"))


async def shown(conn: AsyncConnection) -> dict[str, list[tuple[object, ...]]]:
    return {
        "texts": await rows(conn, "SELECT text FROM analytics_v1.utterances ORDER BY start_ms"),
        "reviews": await rows(conn, "SELECT review_id, text FROM analytics_v1.reviews ORDER BY 1"),
        "mentions": await rows(conn, "SELECT mention_id FROM analytics_v1.aspect_mentions ORDER BY 1"),
        "states": await rows(conn, "SELECT call_id, state, complete FROM analytics_v1.calls ORDER BY 1"),
        "summaries": await rows(conn, "SELECT call_id FROM analytics_v1.summaries"),
        "letters": await rows(conn, 'SELECT "offset" FROM analytics_v1.dead_letters ORDER BY 1'),
    }


async def test_one_row_switches_what_the_views_show_and_back(conn: AsyncConnection) -> None:
    run, other = await seed(conn)
    before = await shown(conn)
    assert len(before["texts"]) == 3
    assert before["states"] == [
        ("c1", "analysed", True),
        ("c2", "no_speech", True),
        ("c3", "timed_out", False),
        ("c4", "streaming", False),
    ]
    await runs.use(conn, other)
    after = await shown(conn)
    assert after["texts"] == [("My phone is broken",)]
    assert after["mentions"] == sorted([(ident("m1"),), (ident("r1"),), (ident("elsewhere"),)])
    assert after["states"] == [
        ("c1", "ended", False),
        ("c2", "ended", False),
        ("c3", "timed_out", False),
        ("c4", "streaming", False),
    ]
    assert (after["reviews"], after["summaries"], after["letters"]) == ([], [], [(5,), (92,)])
    await runs.use(conn, run)
    assert await shown(conn) == before


async def test_edited_and_deleted_reviews(conn: AsyncConnection) -> None:
    await seed(conn)
    found = await rows(conn, "SELECT review_id, text FROM analytics_v1.reviews ORDER BY 1")
    assert found == [(f"r{i}", f"text of r{i}") for i in (1, 2, 3, 4)]
    [(days,)] = await rows(conn, "SELECT sum(mentions) FROM analytics_v1.aspect_daily WHERE source = 'review'")
    assert days == 5


async def test_an_analysed_call_that_timed_out_is_complete_and_still_says_so(conn: AsyncConnection) -> None:
    run, _ = await seed(conn)
    await conn.execute(
        sa.text(
            "INSERT INTO ingest.call_runs (call_id, run_id, call_started_at, state, utterances)"
            " SELECT call_id, :run, call_started_at, 'analysed', 1 FROM ingest.calls WHERE call_id = 'c3'"
        ),
        {"run": run},
    )
    found = await rows(conn, "SELECT state, run_state, complete FROM analytics_v1.calls WHERE call_id = 'c3'")
    assert found == [("timed_out", "analysed", True)]


async def test_a_review_in_a_foreign_language_is_complete_but_not_analysed(conn: AsyncConnection) -> None:
    run, _ = await seed(conn)
    counts = (
        "SELECT sum(total), sum(complete), sum(open), sum(analysed), sum(other_terminal), sum(dead_lettered)"
        " FROM analytics_v1.completeness WHERE source = 'review'"
    )
    assert await rows(conn, counts) == [(6, 6, 0, 4, 0, 2)]
    foreign = "UPDATE ingest.reviews SET state = 'unsupported_language' WHERE review_id = 'r3' AND run_id = :run"
    await conn.execute(sa.text(foreign), {"run": run})
    assert await rows(conn, counts) == [(6, 6, 0, 3, 1, 2)]


async def test_each_review_counts_once_and_so_does_a_call_of_which_nothing_was_accepted(conn: AsyncConnection) -> None:
    run, _ = await seed(conn)
    counts = "SELECT sum(total), sum(dead_lettered) FROM analytics_v1.completeness WHERE source = '{}'"
    [(known,)] = await rows(conn, "SELECT count(*) FROM ingest.calls")
    [(total, buried)] = await rows(conn, counts.format("call"))
    assert (total, buried) == (known + 1, 1), "c9"
    refused = {"run_id": CUT_RUN, "stage": "segmenter", "reason": "unsupported_codec"}
    await dead_letters.insert(conn, [letter(6, subject_id="c9", **refused), letter(7, subject_id="c1", **refused)])
    assert await rows(conn, counts.format("call")) == [(total, buried)], "c9 is counted, and c1 is a call"
    before = await rows(conn, counts.format("review"))
    tombstone = "UPDATE ingest.review_heads SET deleted = true WHERE review_id = 'r4'"
    await dead_letters.insert(conn, [letter(93 + n, run_id=run, subject_id=f"r{n}") for n in (1, 4)])
    assert await rows(conn, counts.format("review")) == before, "they were sent again, and accepted"
    await conn.execute(sa.text(tombstone))
    assert await rows(conn, counts.format("review")) == [(before[0][0] - 1, before[0][1])]
    await dead_letters.insert(conn, [letter(200 + n, run_id=run, subject_id="never-accepted") for n in (1, 2)])
    assert await rows(conn, counts.format("review")) == [(before[0][0], before[0][1] + 1)]


async def test_runs_are_named_by_their_spec(conn: AsyncConnection) -> None:
    assert await runs.current(conn) is None
    first = await runs.open_run(conn, {"b": [1, 2], "a": {"y": 1, "x": 2}}, make_current=False)
    again = await runs.open_run(conn, {"a": {"x": 2, "y": 1}, "b": [1, 2]}, make_current=True)
    assert first.run_id == again.run_id == await runs.current(conn)
    assert (await runs.open_run(conn, {"b": [2, 1], "a": {}}, make_current=False)).run_id != first.run_id
    assert len(await runs.list_runs(conn)) == 2
    with pytest.raises(IntegrityError):
        await runs.use(conn, ident("never opened"))


async def test_errors_do_not_carry_what_was_said(conn: AsyncConnection) -> None:
    with pytest.raises(ProgrammingError) as caught:
        await conn.execute(sa.text("SELECT nonsense(:text)"), {"text": "my card number"})
    assert "card" not in str(caught.value)
