"""The relay: what the outbox holds goes to Kafka, in id order per key, at least once.

Every worker offers itself; a Postgres advisory lock on a connection of its own lets one do it. A key's next message is sent when
the one before is acknowledged. A message that is not taken holds back its topic for a while, and no other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from time import monotonic

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import Transient
from store import outbox
from store.outbox import StoredMessage
from workers.kafka import TAKEN_SECONDS, check_producer
from workers.metrics import OUTBOX_DEPTH, RELAY_FAILURES
from workers.postgres import connected, first_line
from workers.together import together

__all__ = ["Relay"]

log = structlog.get_logger()

#: Rows a round: at about 4 kB each, 2 MB in memory.
ROUND = 500
#: So long a topic that refused a message is left alone: what others are sent does not wait behind it.
REFUSED_SECONDS = 5.0
#: Whoever begins anew publishes again what Postgres did not delete: ever more rarely while that fails.
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0


class Relay:
    """`run` never returns; it survives Kafka and Postgres being away."""

    def __init__(
        self, engine: AsyncEngine, producer: AIOKafkaProducer, *, limit: int, pause_seconds: float = 0.2
    ) -> None:
        self._engine = engine
        self._producer = producer
        self._limit = limit
        self._pause_seconds = pause_seconds
        self._depth = 0
        self._pause = PAUSE_SECONDS
        # By outbox_id: what may still arrive is not sent again.
        self._handed_over: dict[int, asyncio.Future[object]] = {}

    async def check_room(self) -> None:
        """Raises Transient while the outbox is fuller than its bound: workers pause until the broker is back."""
        if self._depth > self._limit:
            raise Transient(f"the outbox holds {self._depth} messages, more than {self._limit}; is Kafka away?")

    async def run(self) -> None:
        await together([self._relay(), self._measure()])

    async def _relay(self) -> None:
        while True:
            try:
                async with outbox.relay_connection(self._engine) as connection:
                    while not await outbox.try_relay_lock(connection):
                        await asyncio.sleep(1.0)
                    await self._publish(connection)
            except SQLAlchemyError as err:
                log.warning("relay.retry", why=first_line(err))
            except OSError as err:
                log.warning("relay.retry", why=f"{type(err).__name__}: {err}")
            await asyncio.sleep(self._pause)

    async def _measure(self) -> None:
        """By itself: whoever relays waits for Kafka, and must see the outbox grow meanwhile."""
        while True:
            try:
                async with connected(self._engine) as connection:
                    self._depth = await outbox.depth(connection)
                OUTBOX_DEPTH.set(self._depth)
            except Transient as err:
                log.warning("relay.retry", why=str(err))
            await asyncio.sleep(1.0)

    async def _publish(self, connection: AsyncConnection) -> None:
        """Holds the lock as long as the connection lives. A topic that refuses a message is left alone for a while."""
        log.info("relay.started")
        self._handed_over.clear()
        refusing: dict[str, float] = {}  # topic -> until when
        while True:
            refusing = {topic: until for topic, until in refusing.items() if monotonic() < until}
            rows = await outbox.take(connection, ROUND, without=list(refusing))
            if not rows:
                await asyncio.sleep(self._pause_seconds)
            for turn in turns(rows):
                going = [row for row in turn if row.topic not in refusing]
                outcomes = await asyncio.gather(*(self._send(row) for row in going), return_exceptions=True)
                told = list(zip(going, outcomes, strict=True))
                self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
                await outbox.delete(connection, [row.id for row, error in told if error is None])
                self._pause = PAUSE_SECONDS
                for row, error in told:
                    if error is None:
                        continue
                    if not isinstance(error, KafkaError | TimeoutError):
                        raise error
                    if row.topic not in refusing:
                        log.warning("relay.refused", topic=row.topic, outbox_id=row.id, why=type(error).__name__)
                    refusing[row.topic] = monotonic() + REFUSED_SECONDS

    async def _send(self, row: StoredMessage) -> None:
        """Returns when the broker has it. Raises KafkaError or TimeoutError; what was handed over then may still arrive."""
        headers = [*row.headers, ("outbox_id", str(row.id).encode())]
        try:
            async with asyncio.timeout(TAKEN_SECONDS):
                if row.id not in self._handed_over:
                    self._handed_over[row.id] = await self._producer.send(
                        row.topic, key=row.key, value=row.value, headers=headers
                    )
                await asyncio.shield(self._handed_over[row.id])
        except TimeoutError:
            RELAY_FAILURES.labels(topic=row.topic).inc()
            raise
        except KafkaError as err:
            self._handed_over.pop(row.id, None)
            RELAY_FAILURES.labels(topic=row.topic).inc()
            check_producer(err)
            raise
        del self._handed_over[row.id]


def turns(rows: Sequence[StoredMessage]) -> list[list[StoredMessage]]:
    """In order, and no key twice in one turn. What has no key has no order."""
    out: list[list[StoredMessage]] = []
    seen: Counter[tuple[str, bytes]] = Counter()
    for row in rows:
        turn = seen[row.topic, row.key]
        if row.key:
            seen[row.topic, row.key] += 1
        if turn == len(out):
            out.append([])
        out[turn].append(row)
    return out
