"""Several coroutines side by side, whose first error is one error again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from errors import Transient

__all__ = ["together"]


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; on an error cancel the rest and raise it bare. An unknown error goes before a Transient one."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as errors:
        flat = leaves(errors)
        raise next((one for one in flat if not isinstance(one, Transient)), flat[0]) from errors


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    out: list[BaseException] = []
    for one in group.exceptions:
        out += leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return out
