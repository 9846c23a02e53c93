"""The product with one of its protections taken out: what the tests of this folder must notice.

Each function changes the modules of the process it is called in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

import store.facts
import store.ledger
import workers.consumer
import workers.loop
from store.unnest import Insert
from workers.ownership import Owned

__all__ = ["MUTANTS", "WITHOUT_KEYS"]

#: What the database of a mutant without ledger and keys has lost too.
WITHOUT_KEYS = (
    "ALTER TABLE ingest.verdicts DROP CONSTRAINT verdicts_one_per_offset, DROP CONSTRAINT verdicts_pkey",
    "ALTER TABLE ingest.reviews DROP CONSTRAINT reviews_pkey",
    "ALTER TABLE pii.review_texts DROP CONSTRAINT review_texts_pkey",
    "ALTER TABLE ingest.aspect_mentions DROP CONSTRAINT aspect_mentions_pkey",
)

#: Longer than faust takes to commit what is acknowledged (1 s).
COMMIT_SECONDS = 2.5


def no_seek() -> None:
    """Reading begins where Kafka's committed offset says."""
    consumer: Any = workers.consumer.WatermarkConsumer
    whole = consumer.seek_to_committed

    async def committed(self: Any) -> Any:
        await whole(self)  # the ledger is asked as ever, and then not listened to
        for place in self.assignment():
            await self._seek(place, 0)
        return await super(consumer, self).seek_to_committed()

    consumer.seek_to_committed = committed


def no_gap_check() -> None:
    async def passes(self: Any, owned: Owned, records: Sequence[Any]) -> None:
        pass

    workers.loop.Loop._check_gaps = passes  # type: ignore[method-assign,assignment]


def acknowledge_first() -> None:
    """Step 6 comes before step 3, and Kafka's committed offset is believed."""
    whole = workers.loop.Loop._partition

    async def first(self: Any, partition: int, events: Sequence[Any], suspects: Any) -> None:
        for event in events:
            event.ack()
        await asyncio.sleep(COMMIT_SECONDS)
        await whole(self, partition, events, suspects)

    workers.loop.Loop._partition = first  # type: ignore[method-assign,assignment]
    no_seek()
    no_gap_check()


def no_ledger_no_key() -> None:
    """Whatever Kafka delivers is worked on and written."""
    no_seek()
    no_gap_check()

    async def always(conn: Any, position: Any, new_offset: int) -> bool:
        await conn.execute(
            sa.text("UPDATE ingest.ledger SET next_offset = :new WHERE ledger_id = :id"),
            {"new": new_offset, "id": position.ledger_id},
        )
        return True

    store.ledger.advance = always  # type: ignore[assignment]
    whole = workers.loop.Loop._partition

    async def everything(self: Any, partition: int, events: Sequence[Any], suspects: Any) -> None:
        owned = self._ownership.partitions.get(partition)
        if owned is not None:
            owned.position = replace(owned.position, next_offset=0)
        await whole(self, partition, events, suspects)

    workers.loop.Loop._partition = everything  # type: ignore[method-assign,assignment]
    for name in ("_REVIEWS", "_REVIEW_TEXTS", "_MENTIONS"):
        setattr(store.facts, name, keyless(getattr(store.facts, name)))


def keyless(insert: Insert) -> Insert:
    class Keyless(Insert):
        @property
        def sql(self) -> str:
            head, _, tail = super().sql.partition(" ON CONFLICT ")
            _, _, returning = tail.partition(" RETURNING ")
            return head + (f" RETURNING {returning}" if returning else "")

    fields: Mapping[str, Any] = {
        name: getattr(insert, name) for name in ("table", "columns", "key", "conflict", "where", "returning")
    }
    return Keyless(**fields)


def no_epoch() -> None:
    """A watermark where it was left is enough to write."""
    store.ledger._ADVANCE = sa.text(
        "UPDATE ingest.ledger SET next_offset = :new, updated_at = now()"
        " WHERE ledger_id = :ledger_id AND next_offset = :old AND CAST(:epoch AS bigint) IS NOT NULL"
    )


MUTANTS: Mapping[str, Callable[[], None]] = {
    "acknowledge_first": acknowledge_first,
    "no_ledger_no_key": no_ledger_no_key,
    "no_epoch": no_epoch,
}
