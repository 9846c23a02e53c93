"""A Kafka record as it was consumed, and a message as it is to be produced."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Headers", "Message", "Record"]

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a consumer got. `timestamp_ms` is Kafka's, in milliseconds since 1970 UTC.

    Payload, key and headers stay out of `repr`, so that a log line can never hold them.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Headers = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a producer sends; a `value` of None deletes what the key names."""

    topic: str
    key: bytes = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Headers = field(default=(), repr=False)
