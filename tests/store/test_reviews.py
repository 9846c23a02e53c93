"""Heads of reviews: what is newer, what is superseded, what stays deleted."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import dead_letters, facts, reviews
from store.reviews import ReviewHead
from tests.store.make import RUN, TOPIC, ident, letter, mention, review


def head(offset: int, version: int | None = None, **changes: object) -> ReviewHead:
    values: dict[str, object] = {
        "review_id": "r1",
        "version": version,
        "topic_id": TOPIC,
        "offset": offset,
        "deleted": False,
    }
    return ReviewHead(**{**values, **changes})  # type: ignore[arg-type]


async def accepted(conn: AsyncConnection, *heads: ReviewHead) -> bool:
    return "r1" in await reviews.advance_heads(conn, heads)


async def test_later_in_the_log_is_newer(conn: AsyncConnection) -> None:
    assert await accepted(conn, head(5))
    assert not await accepted(conn, head(4))
    assert await accepted(conn, head(6))


async def test_a_higher_version_is_newer_wherever_it_stands(conn: AsyncConnection) -> None:
    assert await accepted(conn, head(5, 2))
    assert not await accepted(conn, head(6, 1))
    assert not await accepted(conn, head(7, 2)), "the same version again is a repeat"
    assert await accepted(conn, head(4, 3))


async def test_the_same_record_again_is_accepted_again(conn: AsyncConnection) -> None:
    for record in (head(5, 2), head(5, 2), head(6, 3), head(6, 3)):
        assert await accepted(conn, record)
    assert not await accepted(conn, head(5, 2)), "a replay under a new run meets what is superseded"


async def test_a_tombstone_stays_and_an_edit_with_a_higher_version_returns(conn: AsyncConnection) -> None:
    assert await accepted(conn, head(5, 2))
    assert await accepted(conn, head(6, 3, deleted=True))
    assert not await accepted(conn, head(7, 2))
    assert (await reviews.current_heads(conn, ["r1"]))["r1"].deleted
    assert await accepted(conn, head(8, 4))
    assert not (await reviews.current_heads(conn, ["r1"]))["r1"].deleted


async def test_a_deletion_without_version_keeps_old_versions_away(conn: AsyncConnection) -> None:
    assert await accepted(conn, head(5, 2))
    assert await accepted(conn, head(6, None, deleted=True))
    assert not await accepted(conn, head(7, 1))
    assert not await accepted(conn, head(8, 2))
    assert await accepted(conn, head(9, 3))


async def test_a_recreated_topic_is_newer(conn: AsyncConnection) -> None:
    new = uuid4()
    assert await accepted(conn, head(500))
    assert await accepted(conn, head(0, topic_id=new))
    assert not await accepted(conn, head(900)), "a record of the old topic, whatever its offset"


async def test_several_in_one_batch_go_in_turn(conn: AsyncConnection) -> None:
    batch = [head(1, 1), head(2, 3), head(3, 2), head(4, None, deleted=True), head(1, 9, review_id="r2")]
    assert await reviews.advance_heads(conn, batch) == {"r1": batch[3], "r2": batch[4]}
    stored = (await reviews.current_heads(conn, ["r1", "nobody"]))["r1"]
    assert (stored.version, stored.offset, stored.deleted) == (3, 4, True)
    # ... and again, record by record: only the newest is still accepted.
    assert [await accepted(conn, h) for h in batch[:4]] == [False, False, False, True]


async def test_a_deletion_removes_every_run_and_keeps_the_head(conn: AsyncConnection) -> None:
    await reviews.advance_heads(conn, [head(0), head(0, review_id="r2")])
    for run in (RUN, uuid4()):
        await facts.insert_reviews(conn, [review("r1", run_id=run), review("r2", run_id=run)])
        await facts.insert_aspect_mentions(
            conn, [mention(r, review_id=r, revision_id=ident(r), run_id=run) for r in ("r1", "r2")]
        )
    await dead_letters.insert(conn, [letter(7, subject_id="r1"), letter(8, subject_id="r2")])
    await reviews.advance_heads(conn, [head(1, deleted=True)])
    await reviews.delete_review(conn, ["r1"])
    for table in ("ingest.reviews", "pii.review_texts", "ingest.aspect_mentions"):
        left = (await conn.execute(sa.text(f"SELECT review_id FROM {table}"))).scalars().all()
        assert left == ["r2", "r2"], table
    assert set(await reviews.current_heads(conn, ["r1", "r2"])) == {"r1", "r2"}
    letters = {d.letter.subject_id: d for d in await dead_letters.list(conn)}
    stored = [await dead_letters.get(conn, letters[r].dead_letter_id) for r in ("r1", "r2")]
    assert [d is not None and d.payload for d in stored] == [False, True]


async def test_a_backfill_waits_for_a_deletion(engine: AsyncEngine) -> None:
    """The same record in another run, while a deletion is not committed: it must not slip in before."""
    async with engine.begin() as conn:
        assert await accepted(conn, head(5))

    async def backfill() -> bool:
        async with engine.begin() as conn:
            return await accepted(conn, head(5))

    async with engine.begin() as conn:
        assert await accepted(conn, head(6, deleted=True))
        waiting = asyncio.create_task(backfill())
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done, "the head is locked until the commit"
    assert not await waiting
