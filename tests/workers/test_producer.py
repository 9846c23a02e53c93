"""A producer that has lost count of what it sent: nobody waits for it for ever, and no record is blamed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Undelivered
from settings import Settings
from store import outbox
from store.outbox import OutboxMessage
from stream.events import Message
from tests.workers.pipeline import Pipeline
from workers import kafka
from workers.kafka import ProducerBroken
from workers.relay import Relay


@pytest.fixture
async def broken(pipeline: Pipeline) -> AsyncIterator[AIOKafkaProducer]:
    """As after an outage in which a numbered message was given up: the next number is not the one that the broker expects."""
    producer = kafka.producer(Settings(kafka_bootstrap_servers=pipeline.stack.endpoints["kafka"]))
    await producer.start()
    try:
        await kafka.produce(producer, [message(pipeline)], 0)
        producer._txn_manager.increment_sequence_number(TopicPartition(pipeline.topics.insights, 0), 1)
        yield producer
    finally:
        await producer.stop()


def message(pipeline: Pipeline) -> Message:
    return Message(topic=pipeline.topics.insights, key=b"k", value=b"v")


async def test_who_produces_with_it_leaves(broken: AIOKafkaProducer, pipeline: Pipeline) -> None:
    for _ in range(2):
        with pytest.raises(ProducerBroken, match="OutOfOrderSequenceNumber"):
            await kafka.produce(broken, [message(pipeline)], 0)


async def test_the_relay_leaves(broken: AIOKafkaProducer, pipeline: Pipeline, engine: AsyncEngine) -> None:
    """With a key whose partition is that one."""
    key = next(
        k
        for k in (b"%d" % n for n in range(100))
        if broken._partition(pipeline.topics.insights, None, k, b"", k, b"") == 0
    )
    async with engine.begin() as connection:
        await outbox.put(connection, [OutboxMessage(topic=pipeline.topics.insights, key=key, headers=[], value=b"v")])
    with pytest.raises(ProducerBroken):
        await Relay(engine, broken, limit=10).run()


async def test_what_its_topic_does_not_take_is_no_fault_of_the_producer(pipeline: Pipeline) -> None:
    producer = kafka.producer(Settings(kafka_bootstrap_servers=pipeline.stack.endpoints["kafka"]))
    await producer.start()
    try:
        with pytest.raises(Undelivered):
            await kafka.produce(producer, [Message(topic="there is no such topic", key=b"k", value=b"v")])
    finally:
        await producer.stop()
