"""Messages that leave with the transaction: written in step 5, published by whichever worker holds the relay's lock.

At least once, in the order of `id`. For one key the ids rise in the order of commits: `put` locks the key, so a
transaction that writes the same key waits for the one before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import wire
from store.unnest import dump_json

__all__ = [
    "OutboxMessage",
    "StoredMessage",
    "delete",
    "depth",
    "put",
    "relay_connection",
    "take",
    "try_relay_lock",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """A message to be published; value None is a tombstone."""

    topic: str
    key: bytes
    headers: Sequence[tuple[str, bytes]]
    value: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A message as `take` finds it. The relay adds the header outbox_id from `id`."""

    id: int
    topic: str
    key: bytes
    headers: wire.Headers
    value: bytes | None


# 256 classes of keys: a batch takes at most that many locks, far below Postgres' 6,400, whatever its size.
_LOCK = sa.text(
    "SELECT pg_advisory_xact_lock(CAST(:space AS int), k) FROM ("
    "SELECT DISTINCT (hashtextextended(encode(key, 'hex'), 0) & 255)::int AS k"
    " FROM unnest(CAST(:keys AS bytea[])) AS u(key) ORDER BY 1) AS classes"
)
_PUT = sa.text(
    "INSERT INTO ingest.outbox (topic, key, headers, value)"
    " SELECT topic, key, CAST(headers AS jsonb), value FROM unnest(CAST(:topic AS text[]), CAST(:key AS bytea[]),"
    " CAST(:headers AS text[]), CAST(:value AS bytea[])) WITH ORDINALITY AS u(topic, key, headers, value, n) ORDER BY n"
)
_KEY_SPACE = 0x6561726B  # "eark": the first half of the advisory locks on keys
_RELAY = 0x65617266756C0001  # "earful", 1: the advisory lock of the relay


async def put(conn: AsyncConnection, messages: Sequence[OutboxMessage]) -> None:
    """Write messages in their order. Call it last in the transaction: it holds the keys until the commit."""
    if not messages:
        return
    await conn.execute(_LOCK, {"space": _KEY_SPACE, "keys": [m.key for m in messages]})
    await conn.execute(
        _PUT,
        {
            "topic": [m.topic for m in messages],
            "key": [m.key for m in messages],
            "headers": [dump_json(wire.dump(m.headers)) for m in messages],
            "value": [m.value for m in messages],
        },
    )


async def take(conn: AsyncConnection, limit: int, *, without: Sequence[str] = ()) -> list[StoredMessage]:
    """The oldest messages, in the order of their ids, but those for these topics; they stay until `delete`."""
    found = await conn.execute(
        sa.text(
            "SELECT id, topic, key, headers, value FROM ingest.outbox"
            " WHERE topic <> ALL(CAST(:without AS text[])) ORDER BY id LIMIT :limit"
        ),
        {"limit": limit, "without": list(without)},
    )
    return [
        StoredMessage(
            id=r.id,
            topic=r.topic,
            key=bytes(r.key),
            headers=wire.load(r.headers),
            value=None if r.value is None else bytes(r.value),
        )
        for r in found
    ]


async def delete(conn: AsyncConnection, ids: Sequence[int]) -> None:
    """Remove what the broker has acknowledged."""
    if ids:
        await conn.execute(
            sa.text("DELETE FROM ingest.outbox WHERE id = ANY(CAST(:ids AS bigint[]))"), {"ids": list(ids)}
        )


async def depth(conn: AsyncConnection) -> int:
    """Messages that wait to be published."""
    return int((await conn.execute(sa.text("SELECT count(*) FROM ingest.outbox"))).scalar_one())


async def try_relay_lock(conn: AsyncConnection) -> bool:
    """Become the relay if nobody is; held by the session of `conn` until it ends.

    `conn` must be one of `relay_connection`, or the lock would go back to the pool with it. Ask once: Postgres counts.
    """
    return bool(
        (
            await conn.execute(sa.text("SELECT pg_try_advisory_lock(CAST(:lock AS bigint))"), {"lock": _RELAY})
        ).scalar_one()
    )


@asynccontextmanager
async def relay_connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection of its own, each statement its own transaction; closed for good at the end, and its lock with it."""
    async with engine.connect() as pooled:
        conn = await pooled.execution_options(isolation_level="AUTOCOMMIT")
        try:
            # A relay asks several times a second. One that is stopped must not keep the lock: nothing would be published.
            await conn.execute(sa.text("SET idle_session_timeout = '15s'"))
            yield conn
        finally:
            await conn.invalidate()
