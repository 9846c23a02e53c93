"""The relay's bound on the outbox holds for the worker that relays, too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Transient
from store import outbox
from store.outbox import OutboxMessage
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
    running = asyncio.create_task(relay.run())
    try:
        await put(engine, 1)
        await asyncio.wait_for(producer.asked.wait(), 20)
        await relay.check_room()
        await put(engine, 5)
        async with asyncio.timeout(20):
            while True:
                try:
                    await relay.check_room()
                except Transient:
                    break
                await asyncio.sleep(0.05)
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def put(engine: AsyncEngine, count: int) -> None:
    async with engine.begin() as connection:
        await outbox.put(connection, [OutboxMessage(topic="t", key=b"k", headers=[], value=b"v") for _ in range(count)])
