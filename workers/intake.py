"""How many bytes of records a worker takes into its hands at once: faust itself only counts records."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

__all__ = ["Intake"]


class Intake:
    """Holds back the next record until those in hand leave room for it. A record larger than the bound goes alone."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._room = asyncio.Event()

    async def admit(self, value: bytes | None) -> bytes | None:
        """A stream's processor: what it lets through comes into the batch that is filled now, or the next."""
        size = len(value or b"")
        while self._bytes and self._bytes + size > self._limit_bytes:
            self._room.clear()
            await self._room.wait()
        self._bytes += size
        return value

    def release(self, events: Sequence[Any]) -> None:
        """The batch is done."""
        self._bytes -= sum(len(event.message.value or b"") for event in events)
        self._room.set()
