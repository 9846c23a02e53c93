"""A record that can never succeed: its row, and its message for the dead-letter topic.

The message is the record as it came, with Kafka Connect's error headers (KIP-298), which tools know.
"""

from __future__ import annotations

import hashlib

from errors import Permanent
from store.dead_letters import DeadLetter, dead_letter_id
from store.ledger import LedgerKey
from store.outbox import OutboxMessage
from stream.ids import trace_id
from stream.records import Record
from stream.topics import Topics

__all__ = ["dead_letter", "for_topic"]

#: Kafka's default limit for a record is 1,048,576 bytes, headers and framing included; 64 kB are left for those.
LARGEST_VALUE = 1_048_576 - 65_536
ERRORS = "__connect.errors."


def dead_letter(key: LedgerKey, record: Record, error: Permanent, subject_id: str | None = None) -> DeadLetter:
    return DeadLetter(
        stage=key.stage,
        run_id=key.run_id,
        topic=key.topic,
        topic_id=key.topic_id,
        partition=key.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=record.headers,
        reason=error.reason,
        detail=error.detail,
        trace_id=trace_id(record),
        subject_id=subject_id,
    )


def for_topic(letter: DeadLetter, topics: Topics) -> OutboxMessage:
    """The message for `<topic>.dlt`. A value too large for a record stays in Postgres; size and sha256 say which it was."""
    headers = list(letter.headers)
    headers += [
        (ERRORS + "topic", letter.topic.encode()),
        (ERRORS + "partition", str(letter.partition).encode()),
        (ERRORS + "offset", str(letter.offset).encode()),
        (ERRORS + "stage", letter.stage.encode()),
        (ERRORS + "exception.class.name", letter.reason.encode()),
        (ERRORS + "exception.message", letter.detail.encode()),
        ("earful-dead-letter-id", str(dead_letter_id(letter)).encode()),
    ]
    value = letter.value
    if value is not None and len(value) > LARGEST_VALUE:
        headers += [
            ("earful-value-bytes", str(len(value)).encode()),
            ("earful-value-sha256", hashlib.sha256(value).hexdigest().encode()),
        ]
        value = None
    return OutboxMessage(topic=topics.dlt(letter.topic), key=letter.key or b"", headers=headers, value=value)
