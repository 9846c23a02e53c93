"""Reviews and poison in any number, and a steady stream of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from stream.events import Message
from tests.faults.chaos import Chaos
from tests.faults.load import Item
from tests.workers.sending import review

__all__ = ["BURY", "arrivals", "poison", "reviews"]

BURY = frozenset({"dead_letter"})
#: Poison shares so many keys: the order of dead letters is one of their keys, too.
POISON_KEYS = 10
EVERY_SECONDS = 0.25


def reviews(p: Chaos, first: int, count: int, text: str = "The battery is great.") -> list[Item]:
    """Reviews numbered from `first`; each text ends with its number."""
    return [
        Item(
            subject=f"review-{number}",
            message=review(f"review-{number}", f"{text} ({number})", version=1).to_message(p.topics),
            kinds=frozenset({"result"}),
        )
        for number in range(first, first + count)
    ]


def poison(p: Chaos, numbers: Iterable[int]) -> Iterator[Item]:
    """Records that are no JSON."""
    for number in numbers:
        key = f"poison-{number % POISON_KEYS}".encode()
        message = Message(topic=p.topics.reviews_submitted, key=key, value=b"{not json")
        yield Item(subject=f"poison-{number}", message=message, kinds=BURY, reason="invalid_json")


def arrivals(
    p: Chaos, rate: int, seconds: float, make: Callable[[Chaos, int, int], Iterable[Item]] = reviews
) -> Iterator[float]:
    """Sends records at the rate, numbered on from what was sent; yields the seconds since it began, four times a second."""
    first, began, sent = len(p.manifest.entries), time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        due = int(now * rate)
        if due > sent:
            p.send(list(make(p, first + sent, due - sent)))
        sent = due
        yield now
        until = time.monotonic() + EVERY_SECONDS
        p.wait(lambda until=until: time.monotonic() > until, "the next moment")  # type: ignore[misc]
