"""How faust's records come to the stage: at once where there is room, else in a race with a rebalance."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from mode.services import Service
from mode.utils.locks import Event

from workers.consumer import WatermarkConsumer


class Consumer(WatermarkConsumer):
    """Without a broker: a queue of one record, and whether records flow."""

    def __init__(self, *, active: bool = True, waiting: int = 0) -> None:
        Service.__init__(self)
        self.queue: asyncio.Queue[int] = asyncio.Queue(1)
        for number in range(waiting):
            self.queue.put_nowait(number)
        self.app: Any = SimpleNamespace(
            flow_control=SimpleNamespace(is_active=lambda: active), topics=[SimpleNamespace(queue=self.queue)]
        )
        self.tasks = 0

    async def hand_over(self, number: int) -> None:
        await self.queue.put(number)
        self.tasks = len(asyncio.all_tasks())


async def test_a_record_with_room_is_handed_over_without_a_task() -> None:
    consumer, rebalance = Consumer(), Event()
    await consumer.wait_first(consumer.hand_over(7), rebalance.wait())
    assert consumer.queue.get_nowait() == 7
    assert consumer.tasks == 1


@pytest.mark.parametrize("consumer", [{"waiting": 1}, {"active": False, "waiting": 1}])
async def test_a_rebalance_ends_the_waiting_for_room(consumer: dict[str, Any]) -> None:
    made, rebalance = Consumer(**consumer), Event()
    asyncio.get_running_loop().call_soon(rebalance.set)
    async with asyncio.timeout(5):
        await made.wait_first(made.hand_over(7), rebalance.wait())
    assert made.queue.get_nowait() == 0
    assert made.queue.empty()


async def test_waiting_for_one_thing_is_fausts_own() -> None:
    consumer, resumed = Consumer(), Event()
    asyncio.get_running_loop().call_soon(resumed.set)
    async with asyncio.timeout(5):
        assert not (await consumer.wait(resumed)).stopped
