"""The relay: order per key whatever fails, and a bound that holds for the worker that relays, too."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from aiokafka.errors import KafkaTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Transient
from store import outbox
from store.outbox import OutboxMessage
from workers import relay as relay_module
from workers.relay import Relay


class Away:
    """A producer whose broker does not answer."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.set()
        return asyncio.get_running_loop().create_future()


async def test_the_relay_sees_the_outbox_grow_while_it_waits_for_kafka(engine: AsyncEngine) -> None:
    producer = Away()
    relay = Relay(engine, producer, limit=3)  # type: ignore[arg-type]
    async with relaying(relay):
        await put(engine, 1)
        await asyncio.wait_for(producer.asked.wait(), 20)
        await relay.check_room()
        await put(engine, 5)
        deadline = time.monotonic() + 20
        while not (full := await is_full(relay)) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert full, "six messages wait where three may, and nobody pauses"


@asynccontextmanager
async def relaying(relay: Relay) -> AsyncIterator[None]:
    """It runs meanwhile, and has not ended by itself."""
    running = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def is_full(relay: Relay) -> bool:
    try:
        await relay.check_room()
    except Transient:
        return True
    return False


class Refusing:
    """A broker that refuses one value twice, or a topic for ever, says nothing of another, and takes all else."""

    def __init__(self, value: bytes) -> None:
        self.taken: list[tuple[bytes, bytes]] = []
        self.handed_over: Counter[str] = Counter()
        self.ids: list[tuple[bytes, int]] = []  # key and outbox_id
        self._value = value
        self._left = 2

    async def send(self, topic: str, *, key: bytes, value: bytes, headers: Any) -> asyncio.Future[None]:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.handed_over[topic] += 1
        if topic == "refused":
            raise KafkaTimeoutError
        if topic == "silent":
            return answer
        if value == self._value and self._left:
            self._left -= 1
            raise KafkaTimeoutError
        self.taken.append((key, value))
        self.ids.append((key, int(dict(headers)["outbox_id"])))
        answer.set_result(None)
        return answer


async def test_a_message_that_fails_is_not_overtaken_by_a_newer_one_of_its_key(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "REFUSED_SECONDS", 0.2)
    producer = Refusing(b"k1")
    async with engine.begin() as connection:
        names = [(key, b"%s%d" % (key, number)) for number in range(3) for key in (b"j", b"k")]
        messages = [OutboxMessage(topic="t", key=key, headers=[], value=value) for key, value in names]
        await outbox.put(connection, messages)
    relay = Relay(engine, producer, limit=9)  # type: ignore[arg-type]
    async with relaying(relay):
        async with asyncio.timeout(20):
            while len(producer.taken) < 6:
                await asyncio.sleep(0.05)
    assert [value for key, value in producer.taken if key == b"k"] == [b"k0", b"k1", b"k2"]
    assert sorted(producer.taken) == sorted(names)  # what went well is not sent again
    for name in (b"j", b"k"):
        ids = [number for key, number in producer.ids if key == name]
        assert ids == sorted(set(ids)), "outbox_id rises per key"


async def test_what_is_not_deleted_is_published_again_ever_more_rarely(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a failover to a server that is read-only."""
    monkeypatch.setattr(relay_module, "PAUSE_SECONDS", 0.1)
    tried: list[float] = []

    async def refuse(*args: Any) -> None:
        tried.append(time.monotonic())
        raise sa.exc.OperationalError("DELETE", {}, Exception("cannot execute DELETE in a read-only transaction"))

    monkeypatch.setattr(outbox, "delete", refuse)
    await put(engine, 1)
    async with relaying(Relay(engine, Refusing(b""), limit=9)):  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            while len(tried) < 4:
                await asyncio.sleep(0.05)
    gaps = [after - before for before, after in itertools.pairwise(tried)]
    assert all(gap >= least for gap, least in zip(gaps, (0.2, 0.4, 0.8), strict=True)), gaps


@pytest.mark.parametrize("topic", ["refused", "silent"])
async def test_a_topic_that_refuses_holds_up_no_other(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """More than a round of its messages is the oldest there is; they stay."""
    monkeypatch.setattr(relay_module, "ROUND", 3)
    monkeypatch.setattr(relay_module, "TAKEN_SECONDS", 0.2)
    monkeypatch.setattr(relay_module, "REFUSED_SECONDS", 0.3)
    producer = Refusing(b"")
    await put(engine, 5, topic=topic)
    await put(engine, 4)
    async with relaying(Relay(engine, producer, limit=99)):  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            while len(producer.taken) < 4:
                await asyncio.sleep(0.05)
            async with engine.connect() as connection:
                while await outbox.depth(connection) > 5:
                    await asyncio.sleep(0.05)
    async with engine.connect() as connection:
        assert await outbox.depth(connection) == 5
    assert topic == "refused" or producer.handed_over[topic] == 1, "it may still arrive"


async def test_who_does_not_relay_keeps_one_connection(engine: AsyncEngine) -> None:
    """It asks each second, and a new connection costs a login, a backend and its plans."""
    async with outbox.relay_connection(engine) as other:
        assert await outbox.try_relay_lock(other)
        made, asked = list[object](), list[object]()

        def seen(_: object, __: object, statement: str, *___: object) -> None:
            if "pg_try_advisory_lock" in statement:
                asked.append(statement)

        sa.event.listen(engine.sync_engine, "connect", lambda connection, _: made.append(connection))
        sa.event.listen(engine.sync_engine, "before_cursor_execute", seen)
        relay = Relay(engine, Away(), limit=3)  # type: ignore[arg-type]
        async with relaying(relay):
            async with asyncio.timeout(30):
                while len(asked) < 4:
                    await asyncio.sleep(0.05)
    assert len(made) <= 2, "the relay's, and one that measures"


async def put(engine: AsyncEngine, count: int, topic: str = "t") -> None:
    async with engine.begin() as connection:
        await outbox.put(
            connection, [OutboxMessage(topic=topic, key=b"k", headers=[], value=b"v") for _ in range(count)]
        )
