"""Questions asked at the same moment share a request, and nothing else: neither answers nor failures nor long waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from errors import Permanent, Transient
from workers.bundle import Bundle
from workers.deadline import Deadline


class Model:
    """Answers a word with its length; remembers the requests. `poison` fails every request it is in."""

    def __init__(self, error: Exception | None = None) -> None:
        self.requests: list[list[str]] = []
        self.deadlines: list[Deadline] = []
        self.error = error
        self.answering = asyncio.Event()
        self.answering.set()
        self.cancelled = 0

    async def __call__(self, words: Sequence[str], deadline: Deadline) -> list[int]:
        self.requests.append(list(words))
        self.deadlines.append(deadline)
        try:
            await self.answering.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error and "poison" in words:
            raise self.error
        return [len(word) for word in words]

    def bundle(self, most: int = 4, heaviest: int = 100) -> Bundle[str, int]:
        return Bundle(self, most=most, weight=len, heaviest=heaviest)


def soon() -> Deadline:
    return Deadline.after(30)


async def test_what_is_asked_together_goes_together_in_order() -> None:
    model = Model()
    bundle = model.bundle()
    words = [letter * (n + 1) for n, letter in enumerate("abcdef")]
    assert await asyncio.gather(*(bundle.ask(word, soon()) for word in words)) == [1, 2, 3, 4, 5, 6]
    assert model.requests == [words[:4], words[4:]]
    assert await bundle.ask("alone", soon()) == 5
    assert model.requests[-1] == ["alone"]


async def test_the_heavy_go_alone() -> None:
    model = Model()
    bundle = model.bundle(heaviest=5)
    await asyncio.gather(*(bundle.ask(word, soon()) for word in ("aa", "bb", "much too heavy", "cc", "dddd")))
    assert model.requests == [["aa", "bb"], ["much too heavy"], ["cc"], ["dddd"]]


@pytest.mark.parametrize("error", [Permanent("invalid_input", "refused"), Transient("ill")])
async def test_only_what_fails_by_itself_fails(error: Exception) -> None:
    model = Model(error)
    bundle = model.bundle()
    found = await asyncio.gather(*(bundle.ask(word, soon()) for word in ("a", "poison", "ccc")), return_exceptions=True)
    assert found == [1, error, 3]
    assert model.requests == [["a", "poison", "ccc"], ["a"], ["poison"], ["ccc"]]


async def test_an_error_that_nobody_foresaw_is_not_tried_again() -> None:
    model = Model(ZeroDivisionError())
    bundle = model.bundle()
    found = await asyncio.gather(bundle.ask("a", soon()), bundle.ask("poison", soon()), return_exceptions=True)
    assert found == [model.error, model.error]
    assert len(model.requests) == 1


async def test_the_first_deadline_holds_for_all() -> None:
    model = Model()
    bundle = model.bundle()
    late, early = Deadline.after(60), Deadline.after(10)
    await asyncio.gather(bundle.ask("a", late), bundle.ask("b", early))
    assert model.deadlines == [early]


async def test_a_request_that_nobody_waits_for_is_given_up() -> None:
    model = Model()
    model.answering.clear()
    bundle = model.bundle()
    first, second = (asyncio.create_task(bundle.ask(word, soon())) for word in ("a", "bb"))
    while not model.requests:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert not model.cancelled
    model.answering.set()
    assert await second == 2
    model.answering.clear()
    third = asyncio.create_task(bundle.ask("ccc", soon()))
    while len(model.requests) < 2:
        await asyncio.sleep(0)
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    for _ in range(10):
        await asyncio.sleep(0)
    assert model.cancelled == 1
