"""Seeded load, and the manifest of what was sent where and what must become of it."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from stream.events import Message, Topics
from tests.workers.pipeline import Place
from tests.workers.sending import STARTED, review, sample, whole_call

__all__ = ["Entry", "Item", "Load", "Manifest", "call_items"]

SOURCES = ("calls/card-fee", "calls/hotel-noise", "calls/airline-bag", "calls/late-delivery")
PHRASES = (
    "The battery is great.", "The battery died after a week.", "Delivery was late.", "The price is fair.", "The price is too high.",
    "Friendly service.", "Nobody helped me, the staff was not kind.", "The screen is cracked.", "I love the screen.",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One record to be sent: what it is about, and the verdicts that are right for it."""

    subject: str
    message: Message
    kinds: frozenset[str]
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the manifest."""

    topic: str
    partition: int
    offset: int
    subject: str
    sha256: str
    kinds: frozenset[str]
    reason: str | None
    log: int = 0  # rises when the topic is made again


@dataclass(slots=True)
class Manifest:
    """What was sent; subjects that begin with review- or call- must have results. `logs`: how often a topic was made again."""

    entries: list[Entry] = field(default_factory=list)
    logs: Counter[str] = field(default_factory=Counter)

    def add(self, items: list[Item], places: list[Place]) -> None:
        for item, place in zip(items, places, strict=True):
            self.entries.append(
                Entry(
                    topic=place.topic,
                    partition=place.partition,
                    offset=place.offset,
                    subject=item.subject,
                    sha256=digest(item.message.value),
                    kinds=item.kinds,
                    reason=item.reason,
                    log=self.logs[place.topic],
                )
            )


def digest(value: bytes | None) -> str:
    return hashlib.sha256(value or b"").hexdigest()


def call_items(number: int, dice: random.Random, topics: Topics, call_ms: int) -> list[Item]:
    """A call of that length, cut from one of the samples: its start, its audio and its end."""
    source = sample(dice.choice(SOURCES))
    first = dice.randrange(len(source) // 8 - call_ms) * 8
    call_id = f"call-{number}"
    events = whole_call(call_id, source[first : first + 8 * call_ms], started_at=STARTED + timedelta(hours=number))
    return [
        Item(
            subject=call_id,
            message=event.to_message(topics),
            kinds=frozenset({"control" if index in (0, len(events) - 1) else "consumed"}),
        )
        for index, event in enumerate(events)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The same seed is the same load: reviews, calls of 8 s, and of every hundred records one that can never succeed."""

    seed: int
    reviews: int
    calls: int
    poison: float = 0.01
    call_ms: int = 8_000

    def __str__(self) -> str:
        parts = [(self.reviews, "review"), (self.calls, "call"), (int(self.reviews * self.poison), "poison")]
        return ", ".join(f"{count} {name}{'s' * (count > 1 and name != 'poison')}" for count, name in parts if count)

    def items(self, topics: Topics) -> list[Item]:
        """Everything in the order of sending: what belongs to one call or review keeps its order."""
        dice = random.Random(self.seed)
        streams = [iter(call_items(number, dice, topics, self.call_ms)) for number in range(self.calls)]
        streams.append(self._reviews(dice, topics))
        streams.append(self._poison(dice, topics))
        weights = [self.call_ms // 500 + 2.0] * self.calls + [
            float(self.reviews) or 1.0,
            self.reviews * self.poison + 1,
        ]
        out: list[Item] = []
        while streams:
            chosen = dice.choices(range(len(streams)), weights)[0]
            try:
                out.append(next(streams[chosen]))
            except StopIteration:
                del streams[chosen], weights[chosen]
        return out

    def slices(self, topics: Topics, count: int) -> Iterator[list[Item]]:
        """The items in `count` parts of about the same size."""
        items = self.items(topics)
        step = -(-len(items) // count)
        for first in range(0, len(items), step):
            yield items[first : first + step]

    def _reviews(self, dice: random.Random, topics: Topics) -> Iterator[Item]:
        for number in range(self.reviews):
            text = f"{' '.join(dice.sample(PHRASES, dice.randint(1, 4)))} ({number})"
            event = review(f"review-{number}", text, version=1, rating=dice.randint(1, 5))
            yield Item(subject=event.review_id, message=event.to_message(topics), kinds=frozenset({"result"}))

    def _poison(self, dice: random.Random, topics: Topics) -> Iterator[Item]:
        bury = frozenset({"dead_letter"})
        for number in range(int(self.reviews * self.poison)):
            key = f"poison-{number}"
            kind = number % 4
            if kind == 0:
                message = Message(topic=topics.reviews_submitted, key=key.encode(), value=b"{not json" + key.encode())
                yield Item(subject=key, message=message, kinds=bury, reason="invalid_json")
            elif kind == 1:
                message = Message(topic=topics.reviews_submitted, key=key.encode(), value=b"\xff\xfe" + key.encode())
                yield Item(subject=key, message=message, kinds=bury, reason="invalid_utf8")
            elif kind == 2:
                body = {"review_id": key, "product": "kettle", "text": " ", "created_at": "2026-05-04T00:00:00Z"}
                message = Message(topic=topics.reviews_submitted, key=key.encode(), value=json.dumps(body).encode())
                yield Item(subject=key, message=message, kinds=bury, reason="no_text")
            else:
                message = Message(topic=topics.calls_audio, key=key.encode(), value=dice.randbytes(100))
                yield Item(subject=key, message=message, kinds=bury, reason="missing_header")
