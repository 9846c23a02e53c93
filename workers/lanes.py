"""Each partition's records wait in a lane of their own while its batch is worked on, so that none waits for another's batch.

Within a lane batches follow one another: what gathered meanwhile is the next one. Kafka's answers come partition by
partition, so that much more waits than is worked on, or all of it would be one partition's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from faust.types import EventT

from workers.intake import Intake

__all__ = ["Lanes"]

Take = Callable[[Sequence[EventT[bytes]]], Awaitable[None]]


class Lanes:
    """`take` gets a batch of one partition at a time; those of several partitions run side by side, as tasks of `group`."""

    def __init__(
        self, take: Take, intake: Intake, group: asyncio.TaskGroup, *, most_records: int, wait_seconds: float
    ) -> None:
        """A batch has at most `most_records`, divided by the lanes at work when it begins: while lanes join, batches that began
        before are larger than their share. A lane that was empty waits for its first batch to fill.
        """
        self._take = take
        self._most_records = most_records
        self._intake = intake
        self._group = group
        self._wait_seconds = wait_seconds
        self._waiting: dict[int, list[EventT[Any]]] = {}  # of each lane at work

    async def put(self, event: EventT[Any]) -> None:
        """Returns when there is room for the next."""
        await self._intake.admit(event)
        partition = event.message.partition
        if partition not in self._waiting:
            self._waiting[partition] = []
            self._group.create_task(self._work_off(partition))
        self._waiting[partition].append(event)

    async def _work_off(self, partition: int) -> None:
        await asyncio.sleep(self._wait_seconds)
        while waiting := self._waiting[partition]:
            share = max(1, self._most_records // len(self._waiting))
            batch, self._waiting[partition] = waiting[:share], waiting[share:]
            await self._take(batch)
            self._intake.release(batch)
        del self._waiting[partition]
