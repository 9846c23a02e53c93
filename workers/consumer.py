"""faust's consumer, made to read from the ledger's watermark instead of the group's committed offset.

faust calls `seek_to_committed` after every rebalance (faust/tables/recovery.py, faust/transport/consumer.py); that is the one
place where a partition's start can be decided, so it is the one that is overridden.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

__all__ = ["Seek", "WatermarkApp"]

#: Partition -> first offset of its log; answers where each goes on.
Seek = Callable[[Mapping[int, int]], Awaitable[Mapping[int, int]]]


class WatermarkConsumer(driver.Consumer):
    """Asks the app's `seek` for the start of each assigned partition."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        assigned = sorted(self.assignment())
        if not assigned:
            return {}
        starts = await self.earliest_offsets(*assigned)
        app: Any = self.app
        offsets = await app.seek_partitions({tp.partition: starts[tp] for tp in assigned})
        for tp in assigned:
            await self._seek(tp, offsets[tp.partition])
        return {tp: offsets[tp.partition] for tp in assigned}


class WatermarkTransport(driver.Transport):
    Consumer = WatermarkConsumer


class WatermarkApp(faust.App):
    """A faust app whose partitions start where `seek_partitions` says."""

    seek_partitions: Seek

    def _new_transport(self) -> Any:
        return WatermarkTransport(self.conf.broker_consumer, self)
