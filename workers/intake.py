"""How much a worker takes into its hands at once: records, and their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from faust.types import EventT

__all__ = ["Intake"]


class Intake:
    """Holds back the next record until those in hand leave room for it. A record larger than the bound goes alone."""

    def __init__(self, *, limit_records: int, limit_bytes: int) -> None:
        self._limit_records = limit_records
        self._limit_bytes = limit_bytes
        self._records = self._bytes = 0
        self._room = asyncio.Event()

    async def admit(self, event: EventT[bytes]) -> None:
        """Returns once there is room; the record is in hand then."""
        size = size_of(event)
        while self._records >= self._limit_records or (self._bytes and self._bytes + size > self._limit_bytes):
            self._room.clear()
            await self._room.wait()
        self._records += 1
        self._bytes += size

    def release(self, events: Sequence[EventT[bytes]]) -> None:
        """These are done."""
        self._records -= len(events)
        self._bytes -= sum(map(size_of, events))
        self._room.set()


def size_of(event: EventT[bytes]) -> int:
    return len(event.message.value or b"")
