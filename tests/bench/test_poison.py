"""Which bad records the benchmark of poison sends, and that each is bad."""

from __future__ import annotations

import pytest

from bench.poison import BAD_AUDIO, BAD_REVIEWS, Poison
from errors import Permanent
from stream.events import parse_audio, parse_review
from stream.records import Message, Record
from stream.sender import Sender


class Kept(Sender):
    """A Sender whose messages stay here."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, message: Message) -> None:
        self.messages.append(message)


def test_one_in_a_hundred_is_poison() -> None:
    kept = Kept()
    poison = Poison(kept, "reviews", BAD_REVIEWS)
    for _ in range(1_000):
        poison()
    assert poison.sent == len(kept.messages) == 10
    assert {one.value for one in kept.messages} == set(BAD_REVIEWS)
    assert len({one.key for one in kept.messages}) == 10


@pytest.mark.parametrize(("parse", "values"), [(parse_review, BAD_REVIEWS), (parse_audio, BAD_AUDIO)])
def test_poison_can_never_succeed(parse, values) -> None:  # type: ignore[no-untyped-def]
    for value in values:
        with pytest.raises(Permanent):
            parse(Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=b"k", value=value))
