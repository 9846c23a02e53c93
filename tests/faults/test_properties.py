"""Test 22: ledger, ordered acknowledgement, ids, deadline and retry schedule, 500 runs each; 10,000 in the long form."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy.ext.asyncio import AsyncEngine

import workers.loop
from errors import Transient
from stack.stack import Stack
from store.engine import create
from stream.ids import utterance_id
from tests.faults.results import Figures
from tests.store.test_ledger import FEW, Owners
from tests.workers.conftest import new_database
from tests.workers.histories import HISTORIES, History, buried, empty, judged, seen, two_owners
from tests.workers.rig import Log, Owner, make_table
from workers.deadline import Deadline
from workers.loop import FIRST_PAUSE, LONGEST_PAUSE
from workers.stage import Batch

SHORT, LONG = 500, 10_000
PATIENCE_SECONDS = 15
ANY = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)

forms = pytest.mark.parametrize(
    "runs",
    [
        pytest.param(SHORT, marks=[pytest.mark.proof(22), pytest.mark.timeout(300)]),
        pytest.param(LONG, marks=[pytest.mark.proof(22), pytest.mark.slow, pytest.mark.timeout(5_400)]),
    ],
)


@pytest.fixture
def database(stack: Stack) -> str:
    return new_database(stack)


@pytest.fixture
def url(database: str) -> str:
    """Nothing in it outlives the test, so nobody waits for the disk."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET synchronous_commit = off")  # type: ignore[arg-type]
    return database


@forms
def test_any_history_of_owners(url: str, figures: Figures, runs: int) -> None:
    """The ledger: whoever owns, is late or repeats, the watermark never goes back and no offset has two verdicts."""
    figures.note(load=f"{runs} histories of the ledger")
    with asyncio.Runner() as shared:
        pool = create(url, application_name="test", pool_size=4)

        class Machine(Owners):
            """All runs share their connections: to make those is most of the work."""

            def connect(self) -> None:
                self.runner, self.engine = shared, pool

            def teardown(self) -> None:
                pass

        run_state_machine_as_test(Machine, settings=settings(FEW, max_examples=runs, stateful_step_count=8))
        shared.run(pool.dispose())


@forms
def test_acknowledgements_are_in_order(url: str, figures: Figures, runs: int) -> None:
    """The loop: two owners that die at any step and come back; acknowledged is only what is committed, in order."""
    figures.note(load=f"{runs} histories of two owners")
    make_table(url)
    with asyncio.Runner() as shared, psycopg.connect(url, autocommit=True) as connection:
        engine = create(url, application_name="test", pool_size=4)

        @settings(ANY, max_examples=runs)
        @given(HISTORIES)
        def holds(history: History) -> None:
            end = shared.run(two_owners(engine, connection, history))
            assert sorted([*seen(connection), *buried(connection)]) == judged(connection) == list(range(end))

        holds()
        shared.run(engine.dispose())


CONTENT = st.tuples(st.text(max_size=20), st.integers(0, 1), st.integers(0, 2**40), st.text(max_size=8))


@forms
def test_an_id_is_its_content(figures: Figures, runs: int) -> None:
    """Any sequence of utterances: equal ids where the content is equal, and nowhere else; each a UUID of version 5."""
    figures.note(load=f"{runs} sequences of utterances")

    @settings(ANY, max_examples=runs)
    @given(st.lists(CONTENT, max_size=30))
    def holds(sequence: list[tuple[str, int, int, str]]) -> None:
        known: dict[UUID, tuple[str, int, int, str]] = {}
        for content in sequence:
            made = utterance_id(*content)
            assert made == utterance_id(*content)
            assert made.version == 5
            assert known.setdefault(made, content) == content
        assert len(known) == len(set(sequence))

    holds()


@forms
def test_a_deadline_only_comes_nearer(figures: Figures, runs: int) -> None:
    """Whatever the clock does between, as long as it never goes back: what is left never grows, and then it is over for good."""
    figures.note(load=f"{runs} clocks")

    @settings(ANY, max_examples=runs)
    @given(st.floats(0.001, 1e6), st.lists(st.floats(0, 1e5), max_size=30))
    def holds(seconds: float, ticks: list[float]) -> None:
        now = [0.0]
        deadline = Deadline.after(seconds, lambda: now[0])
        before = deadline.remaining_seconds
        assert before == seconds
        for tick in ticks:
            now[0] += tick
            left = deadline.remaining_seconds
            assert 0.0 <= left <= before
            before = left
            if now[0] >= seconds:
                assert left == 0.0
                with pytest.raises(Transient):
                    deadline.check()
            else:
                assert deadline.check() == left > 0

    holds()


@forms
def test_the_retry_schedule(url: str, figures: Figures, runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dependency that is away for any number of tries: pauses double up to their bound, whatever the dice say, nothing is
    buried, and what hangs is cut off by the deadline each time."""
    figures.note(load=f"{runs} outages")
    make_table(url)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(workers.loop.asyncio, "sleep", noted)

    with asyncio.Runner() as shared, psycopg.connect(url, autocommit=True) as connection:
        engine = create(url, application_name="test", pool_size=2)

        # Not made smaller: each try of what hangs takes PATIENCE_SECONDS.
        @settings(ANY, max_examples=runs, phases=[Phase.explicit, Phase.generate])
        @given(st.lists(st.sampled_from(["away", "hangs"]), max_size=7), st.floats(0, 1))
        def holds(outage: list[str], dice: float) -> None:
            empty(connection)
            pauses.clear()
            owner = shared.run(asyncio.wait_for(play(engine, outage, dice), PATIENCE_SECONDS))
            bounds = [min(LONGEST_PAUSE, FIRST_PAUSE * 2**number) for number in range(len(outage))]
            assert pauses == pytest.approx([bound * (0.5 + dice / 2) for bound in bounds])
            assert owner.stage.batches == [[0, 1, 2]] * (len(outage) + 1)
            assert owner.acked == [(0, 0), (0, 1), (0, 2)]
            assert judged(connection) == [0, 1, 2]

        holds()
        shared.run(engine.dispose())


async def play(engine: AsyncEngine, outage: Sequence[str], dice: float) -> Owner:
    """A worker of a stage that is away, or hangs, so many times."""
    owner = Owner(engine, Log(range(9)), deadline_seconds=0.02 if "hangs" in outage else 5.0, jitter=lambda: dice)
    owner.healthy = False
    left = list(outage)
    nobody = asyncio.Event()

    async def wait(batch: Batch) -> None:
        if not left:
            return
        if left.pop(0) == "hangs":
            await nobody.wait()
        raise Transient("away")

    owner.stage.wait = wait
    await owner.own()
    await owner.take([0, 1, 2])
    return owner
