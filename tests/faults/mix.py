"""Reviews and live calls side by side, without an end: work for all four stages."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from stream.events import Topics
from tests.faults.chaos import Chaos
from tests.faults.load import Item, call_items
from tests.faults.sending import reviews

__all__ = ["Mix"]


class Talk:
    """Calls without an end, some of them at a time: each takes its turn, and another begins where one is over."""

    def __init__(self, topics: Topics, dice: random.Random, talkers: int, call_ms: int) -> None:
        self._numbers, self._topics, self._dice, self._call_ms = itertools.count(), topics, dice, call_ms
        self._open = [self._call() for _ in range(talkers)]

    def _call(self) -> Iterator[Item]:
        return iter(call_items(next(self._numbers), self._dice, self._topics, self._call_ms))

    def next(self) -> Item:
        """A record of the call whose turn it is."""
        call = self._open.pop(0)
        item = next(call, None)
        if item is None:
            call = self._call()
            item = next(call)
        self._open.append(call)
        return item

    def rest(self) -> list[Item]:
        """What the calls that are open still have to say."""
        return [item for call in self._open for item in call]


class Mix:
    """For `arrivals`: reviews, and each `every`th record one of `talkers` live calls of `call_ms`."""

    def __init__(self, topics: Topics, dice: random.Random, *, talkers: int, call_ms: int, every: int) -> None:
        self._talk = Talk(topics, dice, talkers, call_ms)
        self._every = every

    def __call__(self, p: Chaos, first: int, count: int) -> Iterator[Item]:
        for number, item in enumerate(reviews(p, first, count), first):
            yield self._talk.next() if number % self._every == 0 else item

    def rest(self) -> list[Item]:
        """What the calls that are open still have to say."""
        return self._talk.rest()
