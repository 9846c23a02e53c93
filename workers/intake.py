"""How much a worker takes into its hands at once: records, and their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from faust.types import EventT, Message

__all__ = ["Intake", "pairs_of"]


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
    """Headers count as well: Kafka allows a megabyte of them beside no value."""
    message = event.message
    headers = sum(len(name) + len(value or b"") for name, value in pairs_of(message))
    return len(message.value or b"") + len(message.key or b"") + headers


def pairs_of(message: Message) -> Iterable[tuple[str, bytes | None]]:
    """A message's headers, in which faust allows both a list and a mapping."""
    headers = message.headers or ()
    return headers.items() if isinstance(headers, Mapping) else headers
