"""Alive means progress: lag with a still ledger, while all dependencies are healthy, is a reason to leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from uuid import UUID

import structlog

from errors import EarfulError, Transient
from workers.metrics import LAG
from workers.ownership import LogTruncated, Ownership, check_end

__all__ = ["NoProgress", "TopicReplaced", "Watchdog"]

log = structlog.get_logger()

EVERY_SECONDS = 2.0
#: Each asking takes a connection of its own; a topic is hardly ever deleted and made again.
TOPIC_ID_SECONDS = 30.0
#: A partition that stands still for so long before the end of its log may have reached its last record.
MARKER_SECONDS = 4.0


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
        at_work: Callable[[], Mapping[int, int]],
        only_markers: Callable[[int, int, int], Awaitable[bool]],
    ) -> None:
        self._stage = stage
        self._ownership = ownership
        self._log_ends = log_ends
        self._topic_id = topic_id
        self._healthy = healthy
        self._patience_seconds = patience_seconds
        self._tries = tries
        self._at_work = at_work
        self._only_markers = only_markers
        self._still_since = self._asked_topic_id = monotonic()
        self._seen: tuple[dict[int, int], int] = ({}, 0)
        # partition -> offset and try of its batch, and since when it is there
        self._batch_since: dict[int, tuple[tuple[int, int], float]] = {}
        self._ends: Mapping[int, int] = {}  # at the last look
        self._offset_since: dict[int, tuple[int, float]] = {}  # partition -> offset, and since when it is there
        self._asked: dict[int, tuple[int, int, bool]] = {}  # partition -> offset, end, whether no record lies between
        self.caught_up_since: dict[int, float] = {}  # partition -> monotonic seconds

    @property
    def alive(self) -> bool:
        return monotonic() - self._oldest() < self._patience_seconds

    def _oldest(self) -> float:
        """Since when everything stands still, or one batch does while the other partitions go on."""
        return min([self._still_since, *(since for _, since in self._batch_since.values())])

    async def run(self) -> None:
        """Returns never; raises NoProgress, TopicReplaced or LogTruncated when it is time to leave."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self._try_to_look()

    async def _try_to_look(self) -> None:
        try:
            await self._look()
        except LogTruncated:
            raise
        except Transient as err:
            log.warning("watchdog.blind", stage=self._stage, why=str(err))
            self._still_since = monotonic()
            self._batch_since.clear()
            self._ends, self.caught_up_since = {}, {}  # what producers could not send meanwhile comes now

    async def _look(self) -> None:
        owned = dict(self._ownership.partitions)
        offsets = {partition: one.position.next_offset for partition, one in owned.items()}
        ends = await self._log_ends()  # asked after the offsets, which cannot lie behind it
        for partition, one in owned.items():
            check_end(one.key, offsets[partition], ends.get(partition, offsets[partition]))
        ends = await self._ends_of_records(offsets, ends)
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
        if seen != self._seen or not any(lag.values()):
            self._seen, self._still_since = seen, now
        batches = {p: (offsets[p], at) for p, at in self._at_work().items() if p in offsets}
        before = self._batch_since
        self._batch_since = {
            p: before[p] if p in before and before[p][0] == batch else (batch, now) for p, batch in batches.items()
        }
        # Not at each look: under load some batch is always in hand, and the question takes an inference.
        if now - self._oldest() > self._patience_seconds / 2 and not await self._healthy():
            self._still_since = now
            self._batch_since.clear()
        if now - self._oldest() > self._patience_seconds:
            raise NoProgress(f"{self._stage}: {sum(lag.values())} records wait since {now - self._oldest():.0f} s")

    async def _ends_of_records(self, offsets: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int]:
        """The ends, but where only a transaction's markers lie before one: there nothing waits. Kafka is asked once a place."""
        now, out = monotonic(), dict(ends)
        for partition, offset in offsets.items():
            end = ends.get(partition, offset)
            since = self._offset_since.get(partition, (-1, now))
            if since[0] != offset:
                self._offset_since[partition] = since = (offset, now)
            asked = self._asked.get(partition, (-1, -1, False))
            known = asked[0] == offset and (asked[1] == end or not asked[2])
            if offset < end and now - since[1] >= MARKER_SECONDS and not known:
                self._asked[partition] = asked = (offset, end, await self._only_markers(partition, offset, end))
            if asked == (offset, end, True):
                out[partition] = offset
        return out
