"""Headers of a replayed dead letter: it counts as the record it first was, so an edit that came meanwhile stays newer."""

from __future__ import annotations

from uuid import UUID

from errors import Permanent
from stream.records import Record

__all__ = ["ORIGINAL_OFFSET", "ORIGINAL_TOPIC_ID", "REPLAY_OF", "original_place"]

REPLAY_OF = "earful-replay-of"
ORIGINAL_TOPIC_ID = "earful-original-topic-id"
ORIGINAL_OFFSET = "earful-original-offset"


def original_place(record: Record, topic_id: UUID) -> tuple[UUID, int]:
    """Topic id and offset where the record was first written. Raises Permanent for headers that are no such thing."""
    headers = dict(record.headers)
    if REPLAY_OF not in headers:
        return topic_id, record.offset
    try:
        return UUID(headers[ORIGINAL_TOPIC_ID].decode()), int(headers[ORIGINAL_OFFSET])
    except (KeyError, ValueError) as err:
        raise Permanent("invalid_header", f"{REPLAY_OF} needs {ORIGINAL_TOPIC_ID} and {ORIGINAL_OFFSET}") from err
