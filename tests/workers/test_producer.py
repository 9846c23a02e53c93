"""A producer that has lost count of what it sent: nobody waits for it for ever, and no record is blamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Transient, Undelivered
from settings import Settings
from store import outbox
from store.outbox import OutboxMessage
from stream.events import Message
from tests.workers.pipeline import Pipeline
from tests.workers.rig import Log, Owner, like, make_table
from workers import kafka
from workers.deadline import Deadline
from workers.kafka import ProducerBroken
from workers.loop import GIVE_UP_AFTER
from workers.relay import Relay
from workers.stage import Batch, Work


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


async def test_a_topic_that_takes_nothing_buries_nothing(
    pipeline: Pipeline, engine: AsyncEngine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client would wait for longer than a batch may take; the broker answers all else, for more tries than a record gets."""
    monkeypatch.setattr(kafka, "TAKEN_SECONDS", 0.3)
    make_table(database)
    owner = Owner(engine, Log(range(1)), deadline_seconds=3)
    await owner.own()
    whole, tries = owner.stage.work, 0

    async def work(batch: Batch, deadline: Deadline) -> Work[None]:
        nonlocal tries
        tries += 1
        topic = f"{pipeline.topics.prefix}nowhere" if tries <= GIVE_UP_AFTER else pipeline.topics.insights
        await kafka.produce(producer, [Message(topic=topic, key=b"k", value=b"v")])
        return await whole(batch, deadline)

    owner.loop._stage = like(owner, work=work)
    producer = kafka.producer(Settings(kafka_bootstrap_servers=pipeline.stack.endpoints["kafka"]))
    await producer.start()
    try:
        await owner.take([0])
    finally:
        await producer.stop()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT kind FROM ingest.verdicts").fetchall() == [("result",)]


class Slow:
    """A producer that takes its time for each message, as one does that is far from its broker or has a quota."""

    def __init__(self, producer: AIOKafkaProducer, seconds: float) -> None:
        self._producer, self._seconds = producer, seconds

    async def send(self, *arguments: Any, **more: Any) -> Any:
        await asyncio.sleep(self._seconds)
        return await self._producer.send(*arguments, **more)


async def test_many_messages_may_take_longer_than_one(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "TAKEN_SECONDS", 2.0)
    producer = kafka.producer(Settings(kafka_bootstrap_servers=pipeline.stack.endpoints["kafka"]))
    await producer.start()
    before = pipeline.ends(pipeline.topics.insights)
    try:
        await kafka.produce(Slow(producer, 0.5), [message(pipeline)] * 6)  # type: ignore[arg-type]
    finally:
        await producer.stop()
    assert sum(pipeline.ends(pipeline.topics.insights).values()) == sum(before.values()) + 6


async def test_messages_that_are_too_large_are_no_fault_of_the_producer(pipeline: Pipeline) -> None:
    producer = kafka.producer(Settings(kafka_bootstrap_servers=pipeline.stack.endpoints["kafka"]))
    await producer.start()
    try:
        with pytest.raises(Transient, match="too large") as found:
            await kafka.produce(producer, [replace(message(pipeline), value=bytes(2 << 20))])
        assert not isinstance(found.value, Undelivered), "it would be tried with ever new producers"
    finally:
        await producer.stop()
