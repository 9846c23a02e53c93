"""A replayed dead letter counts as the record it first was, also the second time."""

from __future__ import annotations

from uuid import UUID

import pytest

from errors import Permanent
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


@pytest.mark.parametrize("offset", [b"-1", b"9223372036854775807", b"1" + b"0" * 30, b"one"])
def test_an_offset_that_is_none_is_the_records_fault(offset: bytes) -> None:
    """Postgres would refuse it, and the worker would leave again and again."""
    headers = replay_headers((), UUID(int=8), FIRST, 10)
    forged = tuple((name, offset if name == "earful-original-offset" else value) for name, value in headers)
    record = Record(topic="t", partition=0, offset=99, timestamp_ms=0, key=b"r", value=b"{}", headers=forged)
    with pytest.raises(Permanent, match="invalid_header"):
        original_place(record, SECOND)
