"""Batches are compressed as their producers like, and none of it stops a partition."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from stack.stack import Stack
from stream.events import Message
from tests.workers.pipeline import Pipeline
from tests.workers.sending import messages, review


async def produce(bootstrap: str, codec: str | None, sent: Sequence[Message]) -> None:
    """As one batch."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, linger_ms=200) as producer:
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
