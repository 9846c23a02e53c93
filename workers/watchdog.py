"""Alive means progress: lag with a still ledger, while all dependencies are healthy, is a reason to leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from uuid import UUID

import structlog

from errors import EarfulError, Transient
from workers.metrics import LAG
from workers.ownership import Ownership

__all__ = ["NoProgress", "TopicReplaced", "Watchdog"]

log = structlog.get_logger()

EVERY_SECONDS = 2.0
#: Each asking takes a connection of its own; a topic is hardly ever deleted and made again.
TOPIC_ID_SECONDS = 30.0


class NoProgress(EarfulError):
    """Records wait, Postgres and Triton answer, and yet the ledger stands still: a restart is the cure."""


class TopicReplaced(EarfulError):
    """The topic was deleted and made again: its offsets mean something else now, so ask the ledger anew."""


class Watchdog:
    """Also the one who knows whether this worker has caught up (for the reaper) and is alive (for health)."""

    def __init__(
        self,
        *,
        stage: str,
        ownership: Ownership,
        log_ends: Callable[[], Awaitable[Mapping[int, int]]],
        topic_id: Callable[[], Awaitable[UUID]],
        healthy: Callable[[], Awaitable[bool]],
        patience_seconds: float,
        tries: Callable[[], int],
        first_offset_from: Callable[[int, int], Awaitable[int]],
    ) -> None:
        self._stage = stage
        self._ownership = ownership
        self._log_ends = log_ends
        self._topic_id = topic_id
        self._healthy = healthy
        self._patience_seconds = patience_seconds
        self._tries = tries
        self._first_offset_from = first_offset_from
        self._still_since = self._asked_topic_id = monotonic()
        self._seen: tuple[dict[int, int], int] = ({}, 0)
        self._ends: Mapping[int, int] = {}  # at the last look
        self.caught_up_since: dict[int, float] = {}  # partition -> monotonic seconds

    @property
    def alive(self) -> bool:
        return monotonic() - self._still_since < self._patience_seconds

    async def run(self) -> None:
        """Returns never; raises NoProgress or TopicReplaced when it is time to leave."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self._try_to_look()

    async def _try_to_look(self) -> None:
        try:
            await self._look()
        except Transient as err:
            log.warning("watchdog.blind", stage=self._stage, why=str(err))
            self._still_since = monotonic()
            self._ends, self.caught_up_since = {}, {}  # what producers could not send meanwhile comes now

    async def _look(self) -> None:
        owned = dict(self._ownership.partitions)
        ends = await self._log_ends()
        offsets = {partition: one.position.next_offset for partition, one in owned.items()}
        lag = {partition: ends.get(partition, offset) - offset for partition, offset in offsets.items()}
        LAG.labels(stage=self._stage).set(sum(lag.values()))
        now = monotonic()
        # On a busy partition there is always a record in hand: level is who has done what was there at the last look.
        self.caught_up_since = {
            partition: self.caught_up_since.get(partition, now)
            for partition, offset in offsets.items()
            if offset >= self._ends.get(partition, ends.get(partition, offset))
        }
        self._ends = ends
        if owned and now - self._asked_topic_id > TOPIC_ID_SECONDS:
            self._asked_topic_id = now
            if await self._topic_id() != next(iter(owned.values())).key.topic_id:
                raise TopicReplaced(self._stage)
        # Trying again is no standing still: after some tries the loop finds the record that is at fault.
        seen = (offsets, self._tries())
        if seen != self._seen or not any(lag.values()) or not await self._healthy():
            self._seen, self._still_since = seen, now
        elif now - self._still_since > self._patience_seconds:
            # Raises Transient where the log ends with what is no record, as a transaction's marker: nothing waits.
            await self._first_offset_from(*next((place, offsets[place]) for place, behind in lag.items() if behind))
            raise NoProgress(f"{self._stage}: {sum(lag.values())} records wait since {self._patience_seconds:.0f} s")
