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
        at=instant_of(record.timestamp_ms),
    )


def instant_of(timestamp_ms: int) -> datetime:
    """A producer sets it, and may mean microseconds: what no calendar holds becomes 1970."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
