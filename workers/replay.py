"""Headers of a replayed dead letter: it counts as the record it first was, so an edit that came meanwhile stays newer."""

from __future__ import annotations

from uuid import UUID

from errors import Permanent
from stream.records import Headers, Record

__all__ = ["ORIGINAL_OFFSET", "ORIGINAL_TOPIC_ID", "REPLAY_OF", "original_place", "replay_headers"]

REPLAY_OF = "earful-replay-of"
ORIGINAL_TOPIC_ID = "earful-original-topic-id"
ORIGINAL_OFFSET = "earful-original-offset"
MAX_OFFSET = 2**63 - 2  # the next one is an int64, too


def replay_headers(headers: Headers, dead_letter_id: UUID, topic_id: UUID, offset: int) -> Headers:
    """Headers for a dead letter that was given up at `offset`. A replay of a replay keeps the place of the first record."""
    known = dict(headers)
    place = {ORIGINAL_TOPIC_ID: str(topic_id).encode(), ORIGINAL_OFFSET: str(offset).encode()}
    if REPLAY_OF in known:
        place |= {name: known[name] for name in place if name in known}
    theirs = tuple(pair for pair in headers if pair[0] not in (REPLAY_OF, *place))
    return (*theirs, (REPLAY_OF, str(dead_letter_id).encode()), *place.items())


def original_place(record: Record, topic_id: UUID) -> tuple[UUID, int]:
    """Topic id and offset where the record was first written. Raises Permanent for headers that are no such thing."""
    headers = dict(record.headers)
    if REPLAY_OF not in headers:
        return topic_id, record.offset
    try:
        place = UUID(headers[ORIGINAL_TOPIC_ID].decode()), int(headers[ORIGINAL_OFFSET])
    except (KeyError, ValueError) as err:
        raise Permanent("invalid_header", f"{REPLAY_OF} needs {ORIGINAL_TOPIC_ID} and {ORIGINAL_OFFSET}") from err
    if not (0 <= place[1] <= MAX_OFFSET):
        raise Permanent("invalid_header", f"{ORIGINAL_OFFSET} is no offset")
    return place
