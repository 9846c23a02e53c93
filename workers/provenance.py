"""Where a row comes from: its Kafka record."""

from __future__ import annotations

from datetime import UTC, datetime

from store.facts import Source
from store.ledger import LedgerKey
from stream.records import Record

__all__ = ["source_of"]


def source_of(key: LedgerKey, record: Record) -> Source:
    return Source(
        topic=key.topic,
        topic_id=key.topic_id,
        partition=key.partition,
        offset=record.offset,
        at=datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
    )
