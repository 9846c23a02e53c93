"""The oracle's rule for the ids of the outbox: what a consumer does that drops, per key, whatever is not higher."""

from __future__ import annotations

import pytest

from stream.events import Record
from tests.faults.oracle import falling


def log(*published: tuple[bytes, int]) -> list[Record]:
    """A partition of (key, outbox_id); the message of an id is always the same."""
    return [
        Record(
            topic="t",
            partition=0,
            offset=offset,
            timestamp_ms=0,
            key=key,
            value=b"%d" % number,
            headers=(("outbox_id", b"%d" % number),),
        )
        for offset, (key, number) in enumerate(published)
    ]


@pytest.mark.parametrize(
    ("published", "bad"),
    [
        ([(b"a", 1), (b"b", 2), (b"a", 3)], 0),
        ([(b"a", 1), (b"a", 3), (b"a", 1), (b"a", 3), (b"a", 4)], 0),  # repeats
        ([(b"b", 2), (b"a", 1)], 0),  # another key
        ([(b"", 2), (b"", 1)], 0),  # no key, no order
        ([(b"a", 3), (b"a", 1)], 1),
        ([(b"a", 1), (b"a", 5), (b"a", 4), (b"a", 2)], 2),
        ([(b"a", 1), (b"b", 1)], 1),  # one id, two messages
    ],
)
def test_ids_of_the_outbox(published: list[tuple[bytes, int]], bad: int) -> None:
    assert len(falling(log(*published))) == bad
