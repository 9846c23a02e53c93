"""A replayed dead letter counts as the record it first was, also the second time."""

from __future__ import annotations

from uuid import UUID

from stream.records import Record
from workers.replay import original_place, replay_headers

FIRST, SECOND = UUID(int=1), UUID(int=2)


def test_a_replay_of_a_replay_keeps_the_first_place() -> None:
    """Else it would count as newer than an edit that came between."""
    once = replay_headers((("version", b"1"),), UUID(int=8), FIRST, 10)
    twice = replay_headers(once, UUID(int=9), SECOND, 77)
    record = Record(topic="t", partition=0, offset=99, timestamp_ms=0, key=b"r", value=b"{}", headers=twice)
    assert original_place(record, SECOND) == (FIRST, 10)
    assert [name for name, _ in twice] == [
        "version",
        "earful-replay-of",
        "earful-original-topic-id",
        "earful-original-offset",
    ]
    assert dict(twice)["earful-replay-of"] == str(UUID(int=9)).encode()


def test_a_producer_cannot_claim_a_place_without_a_replay() -> None:
    forged = (("earful-original-offset", b"1"), ("earful-original-topic-id", str(SECOND).encode()))
    assert dict(replay_headers(forged, UUID(int=8), FIRST, 10))["earful-original-offset"] == b"10"
