"""Open calls as Postgres has them. Those heard last are also in memory, up to a bound; the others come back when they go on.

Memory holds nothing that Postgres does not, so a call that leaves it loses nothing: its next record costs one query.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import Transient
from store import segmenter
from store.ledger import LedgerKey
from workers.assembly import Assembly
from workers.metrics import OPEN_CALLS, OPEN_CALLS_BYTES
from workers.postgres import connected

__all__ = ["Held", "OpenCalls"]

Pcm = np.ndarray[Any, np.dtype[np.int16]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An open call: state bytes, and per channel the call's sample where its audio begins, and what may still be cut."""

    state: bytes
    audio: tuple[tuple[int, Pcm], ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.state) + sum(pcm.nbytes for _, pcm in self.audio)


class OpenCalls:
    """The open calls of the partitions that this process owns; at most about `limit_bytes` of them in memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._sizes: dict[int, dict[str, int]] = {}  # partition -> call -> bytes; of all that are open
        self._held: OrderedDict[tuple[int, str], Held] = OrderedDict()  # heard longest ago first
        self._bytes = 0

    async def assigned(self, connection: AsyncConnection, keys: Sequence[LedgerKey]) -> None:
        """These partitions are owned now, and no other."""
        sizes: dict[int, dict[str, int]] = {}
        for key in keys:
            await segmenter.adopt(connection, key.topic, key.topic_id, key.partition)
            sizes[key.partition] = await segmenter.sizes(connection, key.topic_id, key.partition)
        self.forget()
        self._sizes = sizes
        self._tell()

    def forget(self) -> None:
        """No partition is owned."""
        self._sizes = {}
        self._held.clear()
        self._bytes = 0
        self._tell()

    @property
    def partitions(self) -> int:
        """How many are owned."""
        return len(self._sizes)

    def size(self, partition: int, call_id: str) -> int:
        """Bytes of a call, in memory or not; 0 for one that is not open."""
        return self._sizes.get(partition, {}).get(call_id, 0)

    async def get_many(self, engine: AsyncEngine, key: LedgerKey, call_ids: Iterable[str]) -> Mapping[str, Held]:
        """Those of the calls that are open. Raises Transient where the partition is not owned: any would look new."""
        known = self._sizes.get(key.partition)
        if known is None:
            raise Transient(f"{key.topic}/{key.partition} was taken away")
        wanted = {call_id for call_id in call_ids if call_id in known}
        found = {
            call_id: self._held[key.partition, call_id] for call_id in wanted if (key.partition, call_id) in self._held
        }
        away = sorted(wanted - found.keys())
        if away:
            async with connected(engine) as connection:
                saved = await segmenter.load(connection, key.topic_id, key.partition, away)
            found |= {one.call_id: restored(one) for one in saved}
        return found

    def put(self, partition: int, call_id: str, held: Held) -> None:
        """What Postgres has now. Nothing is kept of a partition that was taken away meanwhile."""
        self.remove(partition, call_id)
        if partition not in self._sizes:
            return
        self._sizes[partition][call_id] = held.size
        self._held[partition, call_id] = held
        self._bytes += held.size

    def remove(self, partition: int, call_id: str) -> None:
        """It is over."""
        self._sizes.get(partition, {}).pop(call_id, None)
        held = self._held.pop((partition, call_id), None)
        if held is not None:
            self._bytes -= held.size

    def trim(self) -> None:
        """Keep to the bound: what was heard longest ago leaves memory."""
        while self._bytes > self._limit_bytes and self._held:
            _, held = self._held.popitem(last=False)
            self._bytes -= held.size
        self._tell()

    def _tell(self) -> None:
        OPEN_CALLS.set(sum(len(one) for one in self._sizes.values()))
        OPEN_CALLS_BYTES.set(self._bytes)


def restored(saved: segmenter.SavedCall) -> Held:
    call = Assembly.from_bytes(saved.state)
    audio: list[tuple[int, Pcm]] = []
    for channel in range(len(call.channel_states)):
        parts = [one for one in saved.audio if one.channel == channel]
        pcm = [np.frombuffer(part.pcm, np.int16) for part in parts]
        start = parts[0].start_sample if parts else call.position
        audio.append((start, np.concatenate(pcm) if pcm else np.zeros(0, np.int16)))
    return Held(state=saved.state, audio=tuple(audio))
