"""`earful topics`: the topics of one's own Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import typer
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import BrokerResponseError, KafkaError, TopicAlreadyExistsError

from commands.context import (
    FAILED,
    UNAVAILABLE,
    AsJson,
    Failed,
    console,
    errors,
    fail,
    in_transaction,
    print_json,
    require_kafka,
    settings,
    tell_error,
)
from commands.topic_check import look, sentences
from settings import Settings
from store import ledger
from stream import padding
from stream.topics import Topics
from workers import kafka

__all__ = ["create_topics", "pad", "topics"]

#: Records of `topics pad` that wait for Kafka at once: a partition may lack millions, and each is an object here.
PAD_PORTION = 10_000


topics = typer.Typer(
    no_args_is_help=True,
    help="Kafka's topics: create them, or check that they are as they should be.\n\nExample: earful topics check",
)


@topics.command("create")
def topics_create() -> None:
    """Create every topic that does not exist yet.

    Example: EARFUL_TOPIC_PREFIX=acme. earful topics create
    """
    made = create_topics(settings())
    console.print(f"created {len(made)} topics" + (f": {', '.join(made)}" if made else "; all were there"))


def create_topics(using: Settings) -> list[str]:
    """Names of those that were missing."""
    require_kafka(using)
    made: list[str] = []
    with admin(using) as client:
        for spec in Topics(using.topic_prefix).specs(using.partitions):
            topic = NewTopic(spec.name, spec.partitions, using.replication_factor, topic_configs=dict(spec.config))
            try:
                client.create_topics([topic])
                made.append(spec.name)
            except TopicAlreadyExistsError:
                continue
    return made


@contextmanager
def admin(using: Settings) -> Iterator[KafkaAdminClient]:
    """Kafka's admin client; what Kafka refuses ends the command with one sentence."""
    try:
        client = kafka.admin(using)
        try:
            yield client
        finally:
            client.close()
    except BrokerResponseError as err:
        fail(f"Kafka refuses: {type(err).__name__.removesuffix('Error')}: {err.description or err}")
    except KafkaError as err:
        fail(f"Kafka does not answer at {using.kafka_bootstrap_servers} ({type(err).__name__})", UNAVAILABLE)


@topics.command("pad")
def topics_pad() -> None:
    """Fill partitions that Kafka lost records of up to where Earful is done; see docs/operations.md before.

    Example: earful topics pad
    """
    padded = pad(settings())
    for place, count in padded.items():
        console.print(f"{place}: {count} empty records")
    if not padded:
        console.print("no partition ends before its watermark")


def pad(using: Settings) -> dict[str, int]:
    """How many empty records each partition got, so that no offset that is done is given to another record."""
    names = list(Topics(using.topic_prefix).consumed)
    require_kafka(using, *names)
    ids = asyncio.run(kafka.topic_ids(using, names))
    rows = in_transaction(using, ledger.rows)
    wanted: dict[TopicPartition, int] = {}
    for key, next_offset in rows:
        place = TopicPartition(key.topic, key.partition)
        if ids.get(key.topic) == key.topic_id:
            wanted[place] = max(next_offset, wanted.get(place, 0))
    padded: dict[str, int] = {}
    with admin(using):  # its errors are these, too
        consumer = KafkaConsumer(**kafka.aio_options(using))
        producer = KafkaProducer(**kafka.aio_options(using), acks="all", enable_idempotence=True)
        try:
            ends = consumer.end_offsets(list(wanted))
            for place, watermark in sorted(wanted.items()):
                missing = max(0, watermark - ends[place])
                for first in range(0, missing, PAD_PORTION):
                    one = padding.pad(place.topic)
                    sent = [
                        producer.send(place.topic, key=one.key, value=one.value, partition=place.partition)
                        for _ in range(min(PAD_PORTION, missing - first))
                    ]
                    for answer in sent:
                        answer.get(timeout=30)
                if missing:
                    padded[f"{place.topic}/{place.partition}"] = missing
        finally:
            producer.close()
            consumer.close()
    return padded


@topics.command("check")
def topics_check(as_json: AsJson = False) -> None:
    """Check that every topic is there, with the partitions, copies and settings that it should have; exit 1 otherwise.

    Example: earful topics check --json
    """
    using = settings()
    specs = Topics(using.topic_prefix).specs(using.partitions)
    require_kafka(using)
    with admin(using) as client:
        found = look(client, specs, using.replication_factor)
    if as_json:
        print_json(asdict(found))
    if found.unread:
        errors.print(
            f"Kafka does not tell this login the settings of {len(found.unread)} topics (it needs DescribeConfigs),"
            " so they were not compared",
            highlight=False,
            soft_wrap=True,
        )
    wrong = sentences(found, using)
    for sentence in wrong:
        tell_error(sentence)
    if wrong:
        raise Failed(FAILED)
    if not as_json:
        console.print(f"all {len(specs)} topics are there")
