"""A topic's log as it lies in Kafka, read to its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from stream.events import Record

__all__ = ["read", "record_of"]

#: Without a record.
READ_SECONDS = 30


def record_of(message: Any) -> Record:
    """kafka-python's ConsumerRecord as a Record."""
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=message.timestamp,
        key=message.key,
        value=message.value,
        headers=tuple(message.headers),
    )


def read(bootstrap: str, topic: str, ends: Mapping[int, int]) -> list[Record]:
    """All records before these ends, partition by partition, in the order of offsets."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        places = {TopicPartition(topic, number): end for number, end in ends.items()}
        consumer.assign(list(places))
        consumer.seek_to_beginning()
        out: list[Record] = []
        deadline = time.monotonic() + READ_SECONDS
        while any(consumer.position(place) < end for place, end in places.items()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{topic} could not be read to its end")
            for found in consumer.poll(timeout_ms=500).values():
                out += map(record_of, found)
                deadline = time.monotonic() + READ_SECONDS
    finally:
        consumer.close()
    return sorted(out, key=lambda record: (record.partition, record.offset))
