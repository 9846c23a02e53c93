"""Calls: states only move on, terminal ones stay, and call.closed decides what a run shows."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import get_args
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from store import calls, facts
from store.calls import AudioState, CallRun, RunState
from tests.store.make import RUN, START, TOPIC, call, ident, later, mention, utterance

STATES = get_args(AudioState)


async def test_every_pair_of_states(conn: AsyncConnection) -> None:
    pairs = list(product(STATES, STATES))
    await calls.upsert_many(conn, [call(f"{a}-{b}", state=a) for a, b in pairs])
    await calls.upsert_many(conn, [call(f"{a}-{b}", state=b) for a, b in pairs])
    found = await calls.get_many(conn, [f"{a}-{b}" for a, b in pairs])
    for a, b in pairs:
        assert found[f"{a}-{b}"].state == (b if a in ("started", "streaming") else a), (a, b)


async def test_a_call_comes_back_as_it_was_written(conn: AsyncConnection) -> None:
    row = call(
        product='a "phone" \\ {case}',
        close_reason="ended",
        received=((0, 4), (6, 6), (9, 12)),
        last_seq=12,
        duration_ms=2600,
        gap_ms=600,
        late_chunks=1,
        paused=True,
        metadata={"queue": ["a", 1]},
        trace_id="0" * 32,
        roles=('we"ird', "a,b"),
    )
    await calls.upsert_many(conn, [row, call("other", channels=1, roles=("unknown",))])
    found = await calls.get_many(conn, ["c1", "nobody"])
    assert list(found) == ["c1"]
    assert found["c1"] == row


async def test_what_the_first_record_fixed_stays(conn: AsyncConnection) -> None:
    await calls.upsert_many(conn, [call(close_reason="timed_out")])
    await calls.upsert_many(
        conn,
        [
            call(
                call_started_at=later(days=1),
                roles=("agent", "customer"),
                partition=3,
                close_reason="ended",
                duration_ms=5,
            )
        ],
    )
    found = (await calls.get_many(conn, ["c1"]))["c1"]
    assert (found.call_started_at, found.roles, found.partition) == (START, ("customer", "agent"), 0)
    assert (found.close_reason, found.duration_ms) == ("timed_out", 5)


async def test_the_reaper_finds_the_silent_and_spares_the_paused(conn: AsyncConnection) -> None:
    await calls.upsert_many(
        conn, [call("old"), call("paused", paused=True), call("over", state="ended"), call("elsewhere", partition=1)]
    )
    await conn.execute(sa.text("UPDATE ingest.calls SET last_commit_at = now() - interval '10 min'"))
    await calls.upsert_many(conn, [call("new")])

    async def silent(seconds: float, paused: float) -> list[str]:
        found = await calls.silent(conn, topic_id=TOPIC, partition=0, seconds=seconds, paused_seconds=paused)
        return sorted(c.call_id for c in found)

    assert await silent(60, 3600) == ["old"]
    assert await silent(60, 60) == ["old", "paused"]
    assert await silent(3600, 60) == ["paused"]


def closed(state: RunState = "transcribed", utterances: int = 1) -> CallRun:
    return CallRun(call_id="c1", run_id=RUN, call_started_at=START, state=state, utterances=utterances)


async def run_of(conn: AsyncConnection, columns: str) -> tuple[object, ...]:
    found = await conn.execute(sa.text(f"SELECT {columns} FROM ingest.call_runs WHERE call_id = 'c1'"))
    return tuple(found.one())


async def test_the_first_call_closed_wins(conn: AsyncConnection) -> None:
    assert await calls.close_run(conn, closed(), [ident("u1")])
    assert not await calls.close_run(conn, closed("no_speech", 0), [])
    assert await run_of(conn, "state, utterances") == ("transcribed", 1)
    assert await calls.closed(conn, RUN, "c1")
    assert not await calls.closed(conn, uuid4(), "c1")


async def test_what_call_closed_does_not_name_is_shown_nowhere(conn: AsyncConnection) -> None:
    other = uuid4()
    both = [utterance("u1"), utterance("u2", start_ms=2000, end_ms=2500)]
    await calls.upsert_many(conn, [call()])
    await facts.insert_utterances(conn, [*both, *(replace(u, run_id=other) for u in both)])
    await facts.insert_aspect_mentions(conn, [mention("m1"), mention("m2", utterance_id=ident("u2"))])
    await calls.close_run(conn, closed(), [ident("u1")])
    await facts.insert_utterances(conn, [*both, utterance("u3")])
    assert [u.utterance_id for u in await facts.call_utterances(conn, RUN, "c1")] == [ident("u1")]
    assert len(await facts.call_utterances(conn, other, "c1")) == 2
    left = (await conn.execute(sa.text("SELECT mention_id FROM ingest.aspect_mentions"))).scalars().all()
    assert left == [ident("m1")]


async def test_states_of_a_run(conn: AsyncConnection) -> None:
    await calls.close_run(conn, closed(), [])
    assert await calls.finish_runs(conn, uuid4(), {"c1": "analysed"}) == set()
    await calls.give_up_run(conn, RUN, "c1", "too_slow")
    assert await run_of(conn, "reason") == ("too_slow",)
    assert await calls.finish_runs(conn, RUN, {"c1": "analysed"}) == set(), "it is given up"
    await calls.reopen_runs(conn, RUN, ["c1", "c2"])
    assert await calls.finish_runs(conn, RUN, {"c1": "analysed", "c2": "analysed"}) == {"c1"}
    assert await calls.finish_runs(conn, RUN, {"c1": "unsupported_language"}) == set()
    await calls.give_up_run(conn, RUN, "c1", "too_slow")
    assert await run_of(conn, "state") == ("analysed",), "what is there stays"
    assert await calls.finish_runs(conn, RUN, {}) == set()
