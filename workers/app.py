"""The faust app of a stage: it hands over batches, and starts each partition where the ledger says."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError
from faust.types import TP

from errors import EarfulError, Transient
from settings import Settings
from workers import kafka
from workers.consumer import Seek, WatermarkApp
from workers.intake import Intake
from workers.lanes import Lanes
from workers.stage import Stage

__all__ = ["Left", "ended", "log_ends", "make_app"]


#: A group's leader that assigns before a returning broker tells its topics gives nobody a partition (faust: "Ignoring missing
#: topic"), and tries again when it sees the topic. So it looks again after this, and not after aiokafka's five minutes.
METADATA_SECONDS = 10

#: Records in hand, as a multiple of one batch, within the bound on bytes: enough that every partition has some.
AHEAD = 8


class Left(EarfulError):
    """faust stopped by itself; the supervisor starts the worker again."""


def make_app(
    stage: Stage[Any],
    settings: Settings,
    *,
    most_records: int,
    fetch_wait_seconds: float,
    seek: Seek,
    take: Callable[[Sequence[Any], int], Awaitable[None]],
    revoked: Callable[[], Awaitable[None]],
    unneeded: Callable[[], Awaitable[None]],
) -> WatermarkApp:
    """`take` gets each batch of a partition's events and the generation they are for; it may not raise: faust would go on."""
    app = WatermarkApp(
        f"{settings.topic_prefix}earful.{stage.name}.{stage.run_id}",
        broker=[f"kafka://{server}" for server in settings.kafka_bootstrap_servers.split(",")],
        broker_credentials=kafka.credentials(settings),
        store="memory://",
        datadir=Path(tempfile.gettempdir()) / f"earful-faust-{os.getuid()}",  # faust wants one; nothing is in it
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=1000 * METADATA_SECONDS,
        consumer_group_instance_id=settings.instance_id,
        broker_commit_interval=1.0,
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=settings.session_timeout_seconds / 10,
        broker_rebalance_timeout=90.0,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        # What waits in memory beside what is in hand; with less a transaction does less under load.
        stream_buffer_maxsize=most_records,
        producer_acks=-1,
        producer_request_timeout=30.0,
    )
    app.seek_partitions = seek
    app.fetch_wait_seconds = fetch_wait_seconds

    # A worker that is left without a partition is asked for no seek.
    @app.on_partitions_revoked.connect
    async def on_revoked(*_: Any, **__: Any) -> None:
        await revoked()

    @app.on_partitions_assigned.connect
    async def on_assigned(*_: Any, **__: Any) -> None:
        if app.unassigned:
            await unneeded()

    topic = app.topic(stage.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(topic, name=stage.name, concurrency=1)
    async def agent(stream: Any) -> None:
        intake = Intake(limit_records=AHEAD * most_records, limit_bytes=settings.batch_bytes)
        async with asyncio.TaskGroup() as group:
            lanes = Lanes(
                lambda events: take(events, app.consumer_generation_id),
                intake,
                group,
                most_records=most_records,
                wait_seconds=settings.batch_wait_seconds,
            )
            async for event in stream.noack().events():
                await lanes.put(event)

    return app


async def ended(app: WatermarkApp) -> None:
    """Raises Left when faust stops by itself, which it tells nobody: it would stay assigned and do nothing."""
    await app.wait_until_stopped()
    raise Left(f"faust stopped ({type(app.crash_reason).__name__}: {app.crash_reason})")


async def log_ends(app: WatermarkApp, topic: str) -> Mapping[int, int]:
    """End of each assigned partition."""
    assigned = [tp for tp in app.consumer.assignment() if tp.topic == topic]
    if not assigned:
        return {}
    try:
        ends: Mapping[TP, int] = await app.consumer.highwaters(*assigned)
    except KafkaError as err:
        raise Transient(f"Kafka does not answer ({type(err).__name__})") from err
    return {tp.partition: end for tp, end in ends.items()}
