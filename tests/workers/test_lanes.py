"""Lanes: a partition's batches follow one another and wait for no other's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from workers.intake import Intake
from workers.lanes import Lanes


def event(partition: int, offset: int) -> Any:
    return SimpleNamespace(
        message=SimpleNamespace(partition=partition, offset=offset, key=None, value=b"", headers=None)
    )


class Scene:
    """Batches in the order of their beginning; those of the `slow` partitions last until `release` is set."""

    def __init__(self, slow: Sequence[int] = (0,)) -> None:
        self.slow = slow
        self.begun: list[tuple[int, list[int]]] = []
        self.release = asyncio.Event()
        self.changed = asyncio.Condition()

    async def take(self, events: Sequence[Any]) -> None:
        partition = events[0].message.partition
        async with self.changed:
            self.begun.append((partition, [one.message.offset for one in events]))
            self.changed.notify_all()
        if partition in self.slow:
            await self.release.wait()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: len(self.begun) >= count)


async def test_no_lane_waits_for_anothers_batch() -> None:
    scene = Scene()
    async with asyncio.TaskGroup() as group:
        lanes = Lanes(scene.take, Intake(limit_records=10, limit_bytes=1), group, most_records=10, wait_seconds=0.01)
        await lanes.put(event(0, 0))
        await scene.until(1)
        for offset in (1, 2):
            await lanes.put(event(0, offset))
        await lanes.put(event(1, 0))
        await scene.until(2)
        scene.release.set()
    assert scene.begun == [(0, [0]), (1, [0]), (0, [1, 2])]


async def test_what_is_done_makes_room() -> None:
    scene = Scene()
    async with asyncio.TaskGroup() as group:
        lanes = Lanes(scene.take, Intake(limit_records=2, limit_bytes=1), group, most_records=10, wait_seconds=0.01)
        for offset in (0, 1):
            await lanes.put(event(0, offset))
        third = asyncio.create_task(lanes.put(event(0, 2)))
        await scene.until(1)
        assert not third.done()
        scene.release.set()
        await asyncio.wait_for(third, 5)
    assert scene.begun == [(0, [0, 1]), (0, [2])]


async def test_lanes_share_what_is_worked_on() -> None:
    scene = Scene(slow=(0, 1))
    async with asyncio.TaskGroup() as group:
        lanes = Lanes(scene.take, Intake(limit_records=99, limit_bytes=1), group, most_records=4, wait_seconds=0.01)
        for partition in (0, 1):
            for offset in range(3):
                await lanes.put(event(partition, offset))
        await scene.until(2)
        assert scene.begun == [(0, [0, 1]), (1, [0, 1])]
        scene.release.set()
    assert sorted(scene.begun[2:]) == [(0, [2]), (1, [2])]


async def test_an_error_of_a_batch_ends_all() -> None:
    """The worker leaves: nothing may go on as if that batch were done."""

    async def fail(events: Sequence[Any]) -> None:
        raise ValueError("broken")

    async def feed() -> None:
        async with asyncio.TaskGroup() as group:
            lanes = Lanes(fail, Intake(limit_records=2, limit_bytes=1), group, most_records=10, wait_seconds=0.01)
            await lanes.put(event(0, 0))
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup, match="unhandled"):
        await asyncio.wait_for(feed(), 5)
