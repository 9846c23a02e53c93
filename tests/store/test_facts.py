"""Facts: a repeat writes nothing, the first row wins, text Postgres cannot hold does not stop a worker."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from store import calls, dead_letters, facts
from store.fact_tables import PARTITIONED
from tests.store.make import RUN, START, call, ident, later, letter, mention, review, source, summary, utterance


async def contents(conn: AsyncConnection) -> dict[str, list[tuple[object, ...]]]:
    """Every fact with its system columns: a rewritten row would show."""
    return {
        t.name: [
            tuple(r) for r in await conn.execute(sa.text(f"SELECT xmin, ctid, * FROM {t.schema}.{t.name} ORDER BY 2"))
        ]
        for t in PARTITIONED
    }


async def write(conn: AsyncConnection) -> None:
    await facts.insert_utterances(conn, [utterance("u2", start_ms=5), utterance("u1"), utterance("u2", text="twice")])
    await facts.insert_aspect_mentions(conn, [mention("m2"), mention("m1", "positive"), mention("m2", "neutral")])
    await facts.insert_summaries(conn, [summary(), summary(summary="twice"), summary("c2")])
    await facts.insert_reviews(conn, [review(), review("r2"), review(text="twice")])


async def test_a_replay_changes_nothing(conn: AsyncConnection) -> None:
    await write(conn)
    before = await contents(conn)
    for _ in range(2):
        await write(conn)
    assert await contents(conn) == before
    assert [len(rows) for rows in before.values()] == [2] * len(PARTITIONED)


async def test_the_first_row_of_a_run_wins_and_another_run_has_its_own(conn: AsyncConnection) -> None:
    await calls.upsert_many(conn, [call()])
    other = uuid4()
    await facts.insert_utterances(conn, [utterance(text="first")])
    await facts.insert_utterances(conn, [utterance(text="second"), utterance(text="other", run_id=other)])
    assert [u.text for u in await facts.call_utterances(conn, RUN, "c1")] == ["first"]
    assert [u.text for u in await facts.call_utterances(conn, other, "c1")] == ["other"]


async def test_utterances_come_in_the_order_of_time(conn: AsyncConnection) -> None:
    await calls.upsert_many(conn, [call()])
    await facts.insert_utterances(
        conn,
        [utterance(f"u{i}", start_ms=s, end_ms=s + 10, channel=c) for i, (s, c) in enumerate([(9, 1), (9, 0), (2, 1)])],
    )
    found = await facts.call_utterances(conn, RUN, "c1")
    assert [(u.start_ms, u.utterance_id) for u in found] == [(2, ident("u2")), (9, ident("u1")), (9, ident("u0"))]


async def test_finished_are_the_transcribed_and_the_given_up(conn: AsyncConnection) -> None:
    await facts.insert_utterances(conn, [utterance("u1"), utterance("u2", run_id=uuid4())])
    await dead_letters.insert(conn, [letter(stage="transcriber", subject_id=str(ident("u3")))])
    ids = [ident(f"u{i}") for i in range(1, 5)]
    assert await facts.finished_utterances(conn, RUN, dict.fromkeys(ids, START)) == {ident("u1"), ident("u3")}
    later = START + timedelta(days=40)
    assert await facts.finished_utterances(conn, RUN, dict.fromkeys(ids, later)) == {ident("u3")}, (
        "it began when it did"
    )
    assert await facts.finished_utterances(conn, RUN, {}) == set()


async def test_text_that_postgres_cannot_hold(conn: AsyncConnection) -> None:
    await calls.upsert_many(conn, [call()])
    await facts.insert_utterances(conn, [utterance(text="a\x00b\ud800c")])
    assert [u.text for u in await facts.call_utterances(conn, RUN, "c1")] == ["a\ufffdb\ufffdc"]
    await facts.insert_summaries(conn, [summary(actions=["x\x00", {"y\x00": "\udfff"}])])
    stored = (await conn.execute(sa.text("SELECT actions FROM pii.summary_texts"))).scalar_one()
    assert stored == ["x\ufffd", {"y\ufffd": "\ufffd"}]


async def test_numpy_free_types_are_made_uniform(conn: AsyncConnection) -> None:
    """psycopg types an array by its elements: ints beside floats, nulls first, all must go through."""
    rows = [utterance("u1", mean_logprob=None), utterance("u2", mean_logprob=-1), utterance("u3", mean_logprob=-0.5)]
    await facts.insert_utterances(conn, rows)
    stored = await conn.execute(sa.text("SELECT mean_logprob FROM ingest.utterances ORDER BY mean_logprob"))
    assert stored.scalars().all() == [-1, -0.5, None]


async def test_a_date_without_a_partition_is_refused(conn: AsyncConnection) -> None:
    with pytest.raises(IntegrityError, match="no partition"):
        await facts.insert_reviews(conn, [review(created_at=later(days=9000))])


async def test_a_mention_is_of_a_call_or_of_a_review(conn: AsyncConnection) -> None:
    await facts.insert_aspect_mentions(conn, [mention("m1", review_id="r1", revision_id=ident("rev"))])
    with pytest.raises(IntegrityError):
        await facts.insert_aspect_mentions(conn, [replace(mention("m2"), review_id="r1")])


async def test_rows_say_where_they_come_from(conn: AsyncConnection) -> None:
    made = source(41, "calls.utterances.v1", later(seconds=3))
    await facts.insert_utterances(conn, [utterance(source=made, trace_id="f" * 32)])
    row = (await conn.execute(sa.text("SELECT * FROM ingest.utterances"))).one()
    assert (row.source_topic, row.source_topic_id, row.source_partition) == (made.topic, made.topic_id, 0)
    assert (row.source_offset, row.source_at, row.trace_id) == (41, made.at, "f" * 32)
    times = "SELECT committed_at >= now(), committed_at <= clock_timestamp() FROM ingest.utterances"
    assert (await conn.execute(sa.text(times))).one() == (True, True)  # now() is the transaction's begin
