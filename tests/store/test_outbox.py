"""The outbox: in order, exact to the byte, one relay, ids that rise per key."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import outbox
from store.outbox import OutboxMessage


def message(key: bytes, value: bytes | None = b"v") -> OutboxMessage:
    return OutboxMessage(topic="insights.v1", key=key, headers=[("h", b"\x00\xff"), ("h", b"")], value=value)


async def test_messages_leave_in_order_and_exact(conn: AsyncConnection) -> None:
    await outbox.put(conn, [message(b"b"), message(b"\xff\x00", None), message(b"a", b"")])
    await outbox.put(conn, [message(b"b", b"2")])
    assert await outbox.depth(conn) == 4
    taken = await outbox.take(conn, 3)
    assert [(m.key, m.value) for m in taken] == [(b"b", b"v"), (b"\xff\x00", None), (b"a", b"")]
    assert [m.id for m in taken] == sorted(m.id for m in taken)
    assert taken[0].headers == (("h", b"\x00\xff"), ("h", b""))
    await outbox.delete(conn, [m.id for m in taken])
    assert [m.value for m in await outbox.take(conn, 10)] == [b"2"]
    await outbox.delete(conn, [])
    await outbox.put(conn, [])
    assert await outbox.depth(conn) == 1


async def test_ids_of_a_key_rise_in_the_order_of_commits(engine: AsyncEngine) -> None:
    async def second() -> None:
        async with engine.begin() as conn:
            await outbox.put(conn, [message(b"k", b"second")])

    async with engine.begin() as conn:
        await outbox.put(conn, [message(b"k", b"first")])
        waiting = asyncio.create_task(second())
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done, "the key is locked until the commit"
        await outbox.put(conn, [message(b"k", b"first again")])
    await waiting
    async with engine.begin() as conn:
        assert [m.value for m in await outbox.take(conn, 9)] == [b"first", b"first again", b"second"]


async def test_there_is_one_relay_until_its_connection_ends(engine: AsyncEngine) -> None:
    async with outbox.relay_connection(engine) as second:
        async with outbox.relay_connection(engine) as first:
            assert await outbox.try_relay_lock(first)
            assert not await outbox.try_relay_lock(second)
        for _ in range(100):  # the server notices the closed connection in its own time
            if await outbox.try_relay_lock(second):
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("the lock outlived its connection")


async def test_the_relay_sees_what_others_commit(engine: AsyncEngine) -> None:
    async with outbox.relay_connection(engine) as relay:
        assert await outbox.depth(relay) == 0
        async with engine.begin() as conn:
            await outbox.put(conn, [message(b"k")])
        [taken] = await outbox.take(relay, 9)
        await outbox.delete(relay, [taken.id])
        async with engine.begin() as conn:
            assert await outbox.depth(conn) == 0
