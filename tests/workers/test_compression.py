"""Batches are compressed as their producers like, and none of it stops a partition, or takes a worker's memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aiokafka import AIOKafkaProducer

from stack.stack import Stack
from stream.events import Message
from tests.workers.pipeline import Pipeline
from tests.workers.sending import messages, review
from tests.workers.worker import Worker

#: Packed this is 1 MB at most, which is what a broker takes.
BOMB_BYTES = 200_000_000


async def produce(bootstrap: str, codec: str | None, sent: Sequence[Message]) -> None:
    """As one batch."""
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=codec,
        linger_ms=200,
        max_batch_size=BOMB_BYTES + 10_000,
        max_request_size=BOMB_BYTES + 10_000,
    ) as producer:
        taken = [
            await producer.send(one.topic, key=one.key, value=one.value, headers=list(one.headers)) for one in sent
        ]
        await asyncio.gather(*taken)


def test_every_codec_of_kafka_is_read(stack: Stack) -> None:
    with Pipeline(stack, partitions=1) as p:
        for codec in ("gzip", "snappy", "lz4", "zstd", None):
            some = messages(p.topics, [review(f"{codec}-{number}") for number in range(3)])
            asyncio.run(produce(stack.endpoints["kafka"], codec, some))
        p.worker("reviewer")
        p.wait(lambda: p.one("SELECT count(*) FROM ingest.reviews") == 15, "all of them")


def test_a_batch_that_unpacks_to_too_much_is_not_unpacked(stack: Stack) -> None:
    """Two records of a batch of 200 MB get a verdict each, whatever packed it; those around it are read."""
    with Pipeline(stack, partitions=1) as p:
        small = messages(p.topics, [review(f"r{number}") for number in range(3)])
        bomb = [replace(small[1], value=bytes(BOMB_BYTES)), small[1]]
        worker = p.worker("reviewer")
        asyncio.run(produce(stack.endpoints["kafka"], "gzip", small[:1]))
        p.wait(lambda: p.one("SELECT count(*) FROM ingest.reviews") == 1, "the one before")
        before = most_memory(worker)
        for codec in ("gzip", "lz4", "zstd"):
            asyncio.run(produce(stack.endpoints["kafka"], codec, bomb))
        asyncio.run(produce(stack.endpoints["kafka"], None, small[2:]))
        p.wait(lambda: p.one("SELECT count(*) FROM ingest.reviews") == 2, "the one after")
        grown = most_memory(worker) - before
        assert p.rows("SELECT review_id FROM ingest.reviews ORDER BY 1") == [("r0",), ("r2",)]
        letters = p.rows(
            "SELECT d.offset, d.reason, p.value FROM ingest.dead_letters d"
            " JOIN pii.dead_letter_payloads p USING (dead_letter_id) ORDER BY 1"
        )
        assert letters == [(offset, "unreadable_batch", None) for offset in range(1, 7)]
        assert grown < 100_000_000


def most_memory(worker: Worker) -> int:
    """Bytes that the process had at the most."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker.pid}/status").read_text())
    assert found
    return 1024 * int(found[1])
