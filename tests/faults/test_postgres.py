"""Test 8: Postgres away, cut off inside COMMIT, locked, without connections: nothing is acknowledged, memory stays flat."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import psycopg
import pytest

from stack.stack import Stack
from tests.faults.chaos import Chaos
from tests.faults.load import Load
from tests.faults.results import Figures
from tests.workers.pipeline import STAGES

#: A worker's own buffers fill while nothing is done: some records and their events.
GROWTH_BYTES = 24_000_000


def done(p: Chaos) -> dict[tuple[str, int], int]:
    """What the ledger says."""
    return {
        (stage, partition): offset
        for stage, partition, offset in p.rows("SELECT stage, partition, next_offset FROM ingest.ledger")
    }


def memory(p: Chaos) -> dict[str, int]:
    """Resident bytes of each worker and its children."""
    out: dict[str, int] = {}
    for worker in p.workers:
        assert worker.pid is not None
        process = psutil.Process(worker.pid)
        out[worker.name] = sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    return out


@contextmanager
def nothing_acknowledged(p: Chaos, seconds: float, before: dict[tuple[str, int], int]) -> Iterator[dict[str, int]]:
    """While the fault lasts Kafka is told of nothing that is not in the ledger, and no worker grows or leaves."""
    grown: dict[str, int] = {}
    at_first = memory(p)
    yield grown
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ahead = {place: one for place, one in p.acknowledged().items() if one > before.get(place, 0)}
        assert not ahead, (ahead, before)
        assert not any(worker.returncode is not None for worker in p.workers), p.report()
        time.sleep(0.5)
    grown |= {name: size - at_first[name] for name, size in memory(p).items()}
    assert max(grown.values()) < GROWTH_BYTES, grown


def retried(p: Chaos, why: str) -> bool:
    return any(why in worker.log.read_text(errors="replace") for worker in p.workers)


@pytest.mark.proof(8)
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(15, marks=[pytest.mark.chaos, pytest.mark.timeout(300)]),
        pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_postgres_away(own_stack: Stack, small: Load, small_content: list[str], figures: Figures, seconds: int) -> None:
    """Half of the load comes while Postgres is away."""
    postgres = next(one for one in own_stack.servers if one.name == "postgres")
    with Chaos(own_stack) as p:
        p.start()
        first, second = small.slices(p.topics, 2)
        p.send(first)
        p.wait_until_settled(120)
        before = done(p)
        with nothing_acknowledged(p, seconds, before) as grown:
            postgres.stop()
            p.send(second)
        postgres.start()
        p.disturbed()
        p.wait(p.settled, "all is done", 150)
        assert retried(p, "Postgres does not answer")
        p.verify(
            figures,
            small,
            f"Postgres away for {seconds} s",
            small_content,
            grown_mb=round(max(grown.values()) / 1e6, 1),
        )


#: Every eighth transaction that writes a verdict loses its backend in the middle of COMMIT.
CUT_OFF = """
CREATE SEQUENCE cuts;
CREATE FUNCTION cut_off() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('cuts') % 8 = 0 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER cut_off AFTER UPDATE OF next_offset ON ingest.ledger
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut_off();
"""


@pytest.mark.chaos
@pytest.mark.proof(8)
@pytest.mark.timeout(300)
def test_backends_that_end_inside_commit(stack: Stack, small: Load, small_content: list[str], figures: Figures) -> None:
    """Nobody knows then what became of it: the worker leaves, and its successor asks the ledger."""
    with Chaos(stack, audio_batch=16, utterance_batch=4, review_batch=16) as p:
        with psycopg.connect(p.url, autocommit=True) as connection:
            connection.execute(CUT_OFF)
        for stage in STAGES:  # a static member that comes back gets its partitions at once
            p.worker(stage, instance_id=f"{p.name}-{stage}")
        p.send(small.items(p.topics))
        p.wait(p.settled, "all is done", 250)
        assert len(p.exits) >= 4
        assert {code for _, code in p.exits} == {75}, p.why()
        assert "CommitUnknown" in p.why()
        p.verify(figures, small, f"{len(p.exits)} backends ended inside COMMIT", small_content)


@pytest.mark.chaos
@pytest.mark.proof(8)
@pytest.mark.timeout(300)
def test_a_lock_that_outlasts_the_timeout(
    stack: Stack, small: Load, small_content: list[str], figures: Figures
) -> None:
    with Chaos(stack) as p:
        p.start()
        first, second = small.slices(p.topics, 2)
        p.send(first)  # the segmenter's decoder, a process of its own, starts with the first chunk: that is no growth
        p.wait_until_settled(120)
        before = done(p)
        with psycopg.connect(p.url) as holder:
            holder.execute("LOCK TABLE ingest.verdicts IN EXCLUSIVE MODE")
            p.send(second)
            with nothing_acknowledged(p, 14, before):
                p.wait(lambda: retried(p, "lock timeout"), "a lock is given up")
        p.disturbed()
        p.wait(p.settled, "all is done", 150)
        p.verify(figures, small, "the verdicts locked for longer than a worker waits", small_content)
        assert not p.exits


@pytest.mark.chaos
@pytest.mark.proof(8)
@pytest.mark.timeout(300)
def test_no_connection_left(own_stack: Stack, small: Load, small_content: list[str], figures: Figures) -> None:
    """Somebody else takes them all; the workers lose theirs and get no new ones."""
    with Chaos(own_stack) as p:
        p.start()
        p.wait(lambda: len(done(p)) == len(STAGES) * p.partitions, "all partitions are owned")
        taken: list[psycopg.Connection] = []
        with psycopg.connect(p.url, autocommit=True) as mine:
            try:
                others = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'earful-%'"
                with nothing_acknowledged(p, 10, {}):
                    deadline = time.monotonic() + 60
                    while mine.execute(f"SELECT count(*) {others}").fetchone() != (0,):  # type: ignore[call-overload]
                        assert time.monotonic() < deadline
                        mine.execute(f"SELECT pg_terminate_backend(pid) {others}")  # type: ignore[call-overload]
                        try:
                            while True:
                                taken.append(psycopg.connect(own_stack.endpoints["postgres_url"]))
                        except psycopg.OperationalError:
                            continue
                    p.send(small.items(p.topics))
                    p.wait(lambda: retried(p, "too many clients"), "a worker is refused")
            finally:
                for one in taken:
                    one.close()
        p.disturbed()
        p.wait(p.settled, "all is done", 150)
        p.verify(figures, small, f"all {len(taken)} connections taken by somebody else for 10 s", small_content)
