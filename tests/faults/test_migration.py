"""Test 16: the schema goes away and comes back under load. Everything is in Kafka, so everything is there again."""

from __future__ import annotations

import psycopg
import pytest

from settings import PROJECT
from stack.stack import Stack
from store import migrate
from tests.faults.chaos import Chaos
from tests.faults.load import Load
from tests.faults.results import Figures
from tests.workers.pipeline import FIRST, LAST

#: Every revision but the newest, oldest first.
EARLIER = sorted(path.name[:4] for path in (PROJECT / "migrations" / "versions").glob("0*.py"))[:-1]


def halfway(p: Chaos) -> bool:
    """The workers are in the midst of it; also asked where there is no table."""
    p.tend()
    try:
        return bool(p.one("SELECT count(*) FROM ingest.verdicts") > 10)
    except psycopg.Error:
        return False


@pytest.mark.proof(16)
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "revision",
    [
        *(pytest.param(one, marks=pytest.mark.chaos) for one in ("base", EARLIER[0])),
        *(pytest.param(one, marks=pytest.mark.slow) for one in EARLIER[1:]),
    ],
)
def test_down_and_up_under_load(
    stack: Stack, small: Load, small_content: list[str], figures: Figures, revision: str
) -> None:
    """Upgrade, downgrade and upgrade while workers write: they leave or wait, and none ends on an unknown error."""
    with Chaos(stack) as p:
        p.start()
        slices = small.slices(p.topics, 4)
        p.send(next(slices))
        p.send(next(slices))
        p.wait(lambda: halfway(p), "work is going on")
        migrate.downgrade(p.url, revision)
        p.send(next(slices))
        # A revision of comments alone takes nothing from them: then they go on.
        p.wait(lambda: p.settled() or p.exits, "the workers notice, or need nothing of what is gone")
        migrate.upgrade(p.url, from_month=FIRST, to_month=LAST)
        p.open_run({"test": p.name})  # the same run, since its models are the same
        p.send(next(slices))
        p.wait(p.settled, "everything is done", 200)
        # With everything else the outbox's sequence begins anew.
        faults, ids_rise = f"downgrade to {revision}, upgrade", revision != "base"
        p.verify(figures, small, faults, small_content, ids_rise=ids_rise)


@pytest.mark.chaos
@pytest.mark.proof(16)
@pytest.mark.timeout(300)
def test_an_older_worker_refuses_the_newer_schema(stack: Stack, small: Load, figures: Figures) -> None:
    """One sentence and a stop; it has written nothing. When its schema is back, it goes on."""
    with Chaos(stack) as p:
        with psycopg.connect(p.url, autocommit=True) as admin:
            revision = admin.execute("SELECT version_num FROM ingest.schema_version").fetchone()
            admin.execute("UPDATE ingest.schema_version SET version_num = '9999'")
            p.start(["reviewer"])
            p.send([one for one in small.items(p.topics) if one.message.topic == p.topics.reviews_submitted])
            p.wait(lambda: p.workers[0].returncode is not None, "it stops")
            assert "newer than" in p.workers[0].tail(40)
            assert p.one("SELECT count(*) FROM ingest.verdicts") == 0
            assert revision is not None
            admin.execute("UPDATE ingest.schema_version SET version_num = %s", revision)
        p.disturbed()
        p.wait(p.settled, "everything is done", 100)
        p.verify(figures, f"{small.reviews} reviews", "a schema of the future", seed=small.seed)


@pytest.mark.chaos
@pytest.mark.proof(16)
@pytest.mark.timeout(300)
def test_running_workers_outlive_an_additive_migration(
    stack: Stack, small: Load, small_content: list[str], figures: Figures
) -> None:
    """Columns, a table and an index of a later Earful come under their feet: they go on. (A restart would refuse the schema.)"""
    with Chaos(stack) as p:
        p.expects_deaths = False
        p.start()
        first, second = small.slices(p.topics, 2)
        p.send(first)
        p.wait(lambda: halfway(p), "work is going on")
        with psycopg.connect(p.url, autocommit=True) as admin:
            for name in ("ledger", "verdicts", "outbox", "calls", "utterances", "reviews", "aspect_mentions"):
                admin.execute(f"ALTER TABLE ingest.{name} ADD COLUMN later int DEFAULT 7")  # type: ignore[call-overload]
            admin.execute("CREATE TABLE ingest.later (n int)")
            admin.execute("CREATE INDEX ON ingest.calls (later)")
            admin.execute("UPDATE ingest.schema_version SET version_num = '9999'")
        p.send(second)
        p.wait_until_settled(150)
        p.verify(figures, small, "columns, a table and an index more; the version of the future", small_content)
        assert not p.exits
