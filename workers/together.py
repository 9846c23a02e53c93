"""Several coroutines side by side, whose errors are one error again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from errors import Transient

__all__ = ["together"]


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all. A Transient error waits for the others, whose answers are kept; any other cancels them. Raised bare."""
    failed: list[Transient] = []

    async def finish(one: Coroutine[Any, Any, None]) -> None:
        try:
            await one
        except Transient as err:
            failed.append(err)

    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(finish(one))
    except BaseExceptionGroup as errors:
        raise leaves(errors)[0] from errors
    if failed:
        raise failed[0]


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    out: list[BaseException] = []
    for one in group.exceptions:
        out += leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return out
