"""The reaper: calls that never end get call.timed_out, as a record of their own partition.

The segmenter that owns a partition reaps it. It does so only when it has been level with the log for the whole time-out, so that
neither an outage of ours nor a backlog ends a call whose chunks are on their way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

import structlog
from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Transient
from store import calls
from stream.events import CallTimedOut, Topics, make_traceparent
from stream.records import Message
from workers.ownership import Ownership
from workers.postgres import connected
from workers.watchdog import Watchdog

__all__ = ["Reaper"]

log = structlog.get_logger()


class Reaper:
    """`run` never returns."""

    def __init__(
        self,
        *,
        topics: Topics,
        engine: AsyncEngine,
        ownership: Ownership,
        watchdog: Watchdog,
        produce: Callable[[Sequence[Message], int], Awaitable[None]],
        silence_seconds: float,
        paused_seconds: float,
    ) -> None:
        self._topics = topics
        self._engine = engine
        self._ownership = ownership
        self._watchdog = watchdog
        self._produce = produce
        self._silence_seconds = silence_seconds
        self._paused_seconds = paused_seconds

    async def run(self) -> None:
        while True:
            await asyncio.sleep(min(10.0, self._silence_seconds / 2))
            try:
                for partition, since in list(self._watchdog.caught_up_since.items()):
                    if monotonic() - since > self._silence_seconds:
                        await self._reap(partition)
            except (Transient, KafkaError) as err:
                log.warning("reaper.retry", why=str(err))

    async def _reap(self, partition: int) -> None:
        owned = self._ownership.partitions.get(partition)
        if owned is None:
            return
        async with connected(self._engine) as connection:
            silent = await calls.silent(
                connection,
                topic_id=owned.key.topic_id,
                partition=partition,
                seconds=self._silence_seconds,
                paused_seconds=self._paused_seconds,
            )
        messages = [
            CallTimedOut(
                call_id=call.call_id,
                call_started_at=call.call_started_at,
                last_seen_seq=-1 if call.last_seq is None else call.last_seq,
                traceparent=make_traceparent(call.trace_id) if call.trace_id else None,
            ).to_message(self._topics)
            for call in silent
        ]
        if messages:
            log.info("reaper.timed_out", partition=partition, calls=len(messages))
            await self._produce(messages, partition)  # the call's, whatever partitioner its producer has
