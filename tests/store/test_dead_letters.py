"""Dead letters: once each, exact to the byte, replayed once."""

from __future__ import annotations

import asyncio
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import dead_letters
from store.dead_letters import dead_letter_id
from tests.store.make import letter


async def test_kept_exactly_and_once(conn: AsyncConnection) -> None:
    record = letter(headers=(("a", b"1"), ("a", b"\xfe")))
    for _ in range(2):
        await dead_letters.insert(conn, [record, record])
    [found] = await dead_letters.list(conn)
    assert found.dead_letter_id == dead_letter_id(record)
    assert (found.letter.value, found.payload) == (None, False), "a list carries no payload"
    stored = await dead_letters.get(conn, found.dead_letter_id)
    assert stored is not None
    assert stored.letter == record
    assert stored.payload


async def test_filters(conn: AsyncConnection) -> None:
    await dead_letters.insert(conn, [letter(0), letter(1, reason="no_text"), letter(2, stage="segmenter")])

    async def offsets(**filters: object) -> list[int]:
        return sorted(d.letter.offset for d in await dead_letters.list(conn, **filters))  # type: ignore[arg-type]

    assert await offsets() == [0, 1, 2]
    assert await offsets(reason="no_text") == [1]
    assert await offsets(stage="segmenter") == [2]
    assert await offsets(reason="no_text", stage="segmenter") == []
    assert len(await offsets(limit=2)) == 2


async def test_the_order_is_that_of_the_records_and_of_a_topic_that_was_made_again(conn: AsyncConnection) -> None:
    """Its offsets begin anew: 1 of the later topic comes after 5 of the one before, whatever their ids."""
    former, later = UUID(int=9), UUID(int=1)
    for topic_id in (former, later):
        await conn.execute(
            sa.text("INSERT INTO ingest.topics (topic_id, topic) VALUES (:id, :topic)"),
            {"id": topic_id, "topic": letter().topic},
        )
    of = [
        letter(0, topic="a.v1"),
        letter(5, topic_id=former),
        letter(7, topic_id=former, partition=1),
        letter(1, topic_id=later),
        letter(2, topic_id=later),
    ]
    await dead_letters.insert(conn, of)
    ids = [dead_letter_id(one) for one in of]
    found = await dead_letters.in_order(conn, [*reversed(ids), UUID(int=3)])
    assert [one.dead_letter_id for one in found] == ids
    assert [(one.letter.value, one.payload) for one in found] == [(None, True)] * len(of), "no payload is read"


async def test_replayed_once(engine: AsyncEngine) -> None:
    async with engine.begin() as conn:
        await dead_letters.insert(conn, [letter()])
    wanted = dead_letter_id(letter())

    async def replay() -> bool:
        async with engine.begin() as conn:
            found = await dead_letters.get(conn, wanted, lock=True)
            assert found is not None
            return found.replayed_at is None and await dead_letters.mark_replayed(conn, wanted, 0, 7)

    assert sorted(await asyncio.gather(replay(), replay())) == [False, True]
    async with engine.begin() as conn:
        assert not await dead_letters.mark_replayed(conn, wanted, 0, 8)
        stored = await dead_letters.get(conn, wanted)
        assert stored is not None
        assert (stored.replayed_partition, stored.replayed_offset) == (0, 7)
