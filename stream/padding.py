"""Records that only fill places: `earful topics pad` writes them where Kafka lost what had its verdict already."""

from __future__ import annotations

from stream.records import Message, Record

__all__ = ["is_pad", "pad"]

_KEY = b"earful.pad"


def pad(topic: str) -> Message:
    """One of them, for any topic."""
    return Message(topic=topic, key=_KEY, value=None)


def is_pad(record: Record) -> bool:
    """Whether there is nothing to do but to go on."""
    return record.value is None and record.key == _KEY
