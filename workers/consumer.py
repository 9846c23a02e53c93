"""faust's consumer, made to read from the ledger's watermark instead of the group's committed offset.

faust calls `seek_to_committed` after every rebalance (faust/tables/recovery.py, faust/transport/consumer.py); that is the one
place where a partition's start can be decided, so it is the one that is overridden. The other thing that faust does not let
one set is how long Kafka may hold an answer back until there is more to say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

__all__ = ["AskLog", "Seek", "WatermarkApp"]

#: Asks Kafka: assigned partition -> an offset of its log.
AskLog = Callable[[], Awaitable[Mapping[int, int]]]
#: Answers where each assigned partition goes on, given who knows where the logs start and end. May ask more than once: the
#: assignment may change meanwhile.
Seek = Callable[[AskLog, AskLog], Awaitable[Mapping[int, int]]]


#: So much at once is worth an answer before its time.
FETCH_BYTES = 512 * 1024


class PatientThread(driver.AIOKafkaConsumerThread):
    """Where faust makes its aiokafka consumer."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        app: Any = self.app
        if app.fetch_wait_seconds:
            consumer._fetch_min_bytes = FETCH_BYTES
            consumer._fetch_max_wait_ms = round(1000 * app.fetch_wait_seconds)
        return consumer


class WatermarkConsumer(driver.Consumer):
    """Asks the app's `seek` for the start of each assigned partition."""

    def _new_consumer_thread(self) -> Any:
        return PatientThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        async def log_starts() -> Mapping[int, int]:
            assigned = sorted(self.assignment())
            starts = await self.earliest_offsets(*assigned) if assigned else {}
            return {tp.partition: offset for tp, offset in starts.items()}

        async def log_ends() -> Mapping[int, int]:
            assigned = sorted(self.assignment())
            ends = await self.highwaters(*assigned) if assigned else {}
            return {tp.partition: offset for tp, offset in ends.items()}

        app: Any = self.app
        offsets = await app.seek_partitions(log_starts, log_ends)
        found = {tp: offsets[tp.partition] for tp in sorted(self.assignment()) if tp.partition in offsets}
        for tp, offset in found.items():
            await self._seek(tp, offset)
        return found


class WatermarkTransport(driver.Transport):
    Consumer = WatermarkConsumer


class WatermarkApp(faust.App):
    """A faust app whose partitions start where `seek_partitions` says.

    Kafka answers a fetch when `fetch_wait_seconds` are over or there is much; 0: as soon as there is a record.
    """

    seek_partitions: Seek
    fetch_wait_seconds: float = 0.0

    def _new_transport(self) -> Any:
        return WatermarkTransport(self.conf.broker_consumer, self)
