"""What is in hand is bounded in records and bytes: first the bounds alone, then in a worker that faust hands records to."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from stack.stack import Stack
from stream.events import Message
from tests.workers.pipeline import Pipeline
from workers.intake import Intake, size_of


def event(size: int | None) -> Any:
    value = None if size is None else bytes(size)
    return SimpleNamespace(message=SimpleNamespace(value=value, key=None, headers=None))


async def test_bytes_wait_until_those_in_hand_are_done() -> None:
    intake = Intake(limit_records=10, limit_bytes=100)
    for size in (60, 0, 40, None):
        await intake.admit(event(size))
    waiting = asyncio.create_task(intake.admit(event(50)))
    await asyncio.sleep(0)
    assert not waiting.done()
    intake.release([event(60)])
    await asyncio.wait_for(waiting, 5)
    huge = asyncio.create_task(intake.admit(event(1_000)))
    await asyncio.sleep(0)
    assert not huge.done()
    intake.release([event(40), event(50)])
    await asyncio.wait_for(huge, 5)


def test_key_and_headers_count_as_bytes() -> None:
    message = SimpleNamespace(value=None, key=b"key", headers=[("name", bytes(1_000)), ("none", None)])
    assert size_of(SimpleNamespace(message=message)) == 3 + 4 + 1_000 + 4  # type: ignore[arg-type]
    message.headers = {"name": b"12"}
    assert size_of(SimpleNamespace(message=message)) == 3 + 4 + 2  # type: ignore[arg-type]


async def test_records_wait_until_those_in_hand_are_done() -> None:
    intake = Intake(limit_records=2, limit_bytes=100)
    for _ in range(2):
        await intake.admit(event(0))
    waiting = asyncio.create_task(intake.admit(event(0)))
    await asyncio.sleep(0)
    assert not waiting.done()
    intake.release([event(0)])
    await asyncio.wait_for(waiting, 5)


def test_large_records_make_small_batches(stack: Stack) -> None:
    """Each commit writes its own range of verdicts, so the ranges tell the batches."""
    with Pipeline(stack, partitions=1, batch_bytes=1_000_000, batch_wait_seconds=0.5) as p:
        p.produce([Message(topic=p.topics.reviews_submitted, key=b"%d" % n, value=bytes(110_000)) for n in range(40)])
        p.worker("reviewer")
        p.wait(lambda: p.lag("reviewer") == 0 and p.one("SELECT max(next_offset) FROM ingest.ledger") == 40, "all")
        sizes = [
            size
            for (size,) in p.rows("SELECT last_offset - first_offset + 1 FROM ingest.verdicts ORDER BY first_offset")
        ]
        assert sum(sizes) == 40
        assert max(sizes) <= 9
