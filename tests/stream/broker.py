"""Topics of a test's own on the real broker, and what lies in them."""

from __future__ import annotations

import uuid

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic

from stream.events import AudioEvent, Record, parse_audio
from stream.topics import Topics
from tests.workers.topic_log import read

__all__ = ["Broker", "create", "records"]


class Broker:
    """The test's own topics on the real broker."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = f"t{uuid.uuid4().hex[:12]}."
        self.topics = Topics(self.prefix)
        create(bootstrap, {spec.name: dict(spec.config) for spec in self.topics.specs()})

    def records(self, topic: str) -> list[Record]:
        return records(self.bootstrap, topic)

    def call(self, call_id: str) -> list[AudioEvent]:
        events = [parse_audio(record) for record in self.records(self.topics.calls_audio)]
        return [event for event in events if event.call_id == call_id]


def records(bootstrap: str, topic: str) -> list[Record]:
    """All records of a topic, in order within each partition."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        ends = {place.partition: end for place, end in consumer.end_offsets(places).items()}
    finally:
        consumer.close()
    return read(bootstrap, topic, ends)


def create(bootstrap: str, topics: dict[str, dict[str, str]]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics([NewTopic(name, 6, 1, topic_configs=config) for name, config in topics.items()])
    finally:
        admin.close()
