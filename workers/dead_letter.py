"""A record that can never succeed: its row, and its message for the dead-letter topic.

The message is the record as it came, with Kafka Connect's error headers (KIP-298), which tools know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from errors import Permanent
from store.dead_letters import DeadLetter, dead_letter_id
from store.ledger import LedgerKey
from store.outbox import OutboxMessage
from stream.ids import trace_id
from stream.limits import MAX_ID_BYTES
from stream.records import Record
from stream.topics import Topics

__all__ = ["dead_letter", "for_topic"]

#: Kafka's default limit for a batch is 1,048,588 bytes; 61 frame it, some 30 the record, some 30 the relay's outbox_id.
LARGEST_RECORD = 1_048_588 - 188
#: Lengths around a header's name and value.
HEADER_FRAME = 10
#: Of a key that is longer than any id so much is kept where the record would not fit otherwise.
KEY_BYTES = MAX_ID_BYTES
#: Characters; an index of Postgres takes 2,700 bytes.
LONGEST_SUBJECT = MAX_ID_BYTES
ERRORS = "__connect.errors."


def subject_of(record: Record) -> str | None:
    """What the record is about: its utterance, else the call or review that its key names."""
    name = dict(record.headers).get("utterance_id") or record.key
    # As Postgres takes it.
    return name.decode(errors="replace").replace("\0", "\ufffd")[:LONGEST_SUBJECT] if name else None


def dead_letter(key: LedgerKey, record: Record, error: Permanent) -> DeadLetter:
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
        subject_id=subject_of(record),
    )


def for_topic(letter: DeadLetter, topics: Topics) -> OutboxMessage:
    """The message for `<topic>.dlt`. What makes it too large for a record stays in Postgres: first the value, of which
    size and sha256 tell, then headers and key. A message that Kafka refuses would stop the outbox for ever."""
    ours = [
        (ERRORS + "topic", letter.topic.encode()),
        (ERRORS + "partition", str(letter.partition).encode()),
        (ERRORS + "offset", str(letter.offset).encode()),
        (ERRORS + "stage", letter.stage.encode()),
        (ERRORS + "exception.class.name", letter.reason.encode()),
        (ERRORS + "exception.message", letter.detail.encode()),
        ("earful-dead-letter-id", str(dead_letter_id(letter)).encode()),
    ]
    key, theirs, value = letter.key or b"", list(letter.headers), letter.value
    if value is not None and size(key, [*theirs, *ours], value) > LARGEST_RECORD:
        ours += [
            ("earful-value-bytes", str(len(value)).encode()),
            ("earful-value-sha256", hashlib.sha256(value).hexdigest().encode()),
        ]
        value = None
    if size(key, [*theirs, *ours], value) > LARGEST_RECORD:
        ours.append(("earful-headers-left-out", str(len(theirs)).encode()))
        key, theirs = key[:KEY_BYTES], []
    return OutboxMessage(topic=topics.dlt(letter.topic), key=key, headers=[*theirs, *ours], value=value)


def size(key: bytes, headers: Sequence[tuple[str, bytes]], value: bytes | None) -> int:
    """Bytes of a record, a few too many."""
    around = sum(len(name.encode()) + len(content) + HEADER_FRAME for name, content in headers)
    return len(key) + len(value or b"") + around
