"""Questions to a model that are asked at the same moment go in one request: most of what a small request costs is its own.

The model still answers each by itself, so that no answer depends on its neighbours; and neither does a failure: what
fails together is asked again alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from errors import Permanent, Transient
from workers.deadline import Deadline

__all__ = ["Bundle"]

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[Q, A]):
    question: Q
    deadline: Deadline
    answer: asyncio.Future[A]


class Bundle(Generic[Q, A]):
    """Nothing waits for company: a question asked alone goes alone, and at once."""

    def __init__(
        self,
        request: Callable[[Sequence[Q], Deadline], Awaitable[Sequence[A]]],
        *,
        most: int,
        weight: Callable[[Q], int],
        heaviest: int,
    ) -> None:
        """`request` answers so many questions in their order. It gets at most `most`, and of several together at most
        `heaviest` in the sum of their weights, so that none waits long for others."""
        self._request = request
        self._most = most
        self._weight = weight
        self._heaviest = heaviest
        self._asked: list[Asked[Q, A]] = []
        self._requests: set[asyncio.Task[None]] = set()

    async def ask(self, question: Q, deadline: Deadline) -> A:
        """The answer; raises what `request` raises for this question alone."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._send)
        one: Asked[Q, A] = Asked(question=question, deadline=deadline, answer=loop.create_future())
        self._asked.append(one)
        return await one.answer

    def _send(self) -> None:
        asked, self._asked = [one for one in self._asked if not one.answer.done()], []
        together: list[Asked[Q, A]] = []
        heavy = 0
        for one in asked:
            weight = self._weight(one.question)
            if together and (len(together) == self._most or heavy + weight > self._heaviest):
                self._start(together)
                together, heavy = [], 0
            together.append(one)
            heavy += weight
        if together:
            self._start(together)

    def _start(self, together: list[Asked[Q, A]]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(together))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

        def forgotten(_: asyncio.Future[A]) -> None:
            if all(one.answer.done() for one in together):
                task.cancel()

        for one in together:
            one.answer.add_done_callback(forgotten)

    async def _answer(self, together: Sequence[Asked[Q, A]]) -> None:
        deadline = min((one.deadline for one in together), key=lambda deadline: deadline.at)
        try:
            answers = await self._request([one.question for one in together], deadline)
            pairs = list(zip(together, answers, strict=True))
        except Exception as err:  # noqa: BLE001 - it belongs to whoever asked
            waiting = [one for one in together if not one.answer.done()]
            alone = len(together) == 1 or not isinstance(err, Permanent | Transient)
            for one in waiting:
                if alone:
                    one.answer.set_exception(err)
                else:
                    self._start([one])
            return
        for one, answer in pairs:
            if not one.answer.done():
                one.answer.set_result(answer)
