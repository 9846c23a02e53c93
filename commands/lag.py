"""How many records each stage has yet to read: the ends of Kafka's partitions less the ledger's watermarks."""

from __future__ import annotations

import asyncio

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from commands.context import in_transaction
from errors import Transient
from settings import Settings
from store import ledger, runs
from stream.topics import Topics
from workers import kafka
from workers.access import check_access

__all__ = ["lag"]


def lag(using: Settings) -> dict[str, int]:
    """By stage, in the run that it works for. Raises EarfulError where Kafka does not say."""
    topics = Topics(using.topic_prefix)
    read = {
        "segmenter": topics.calls_audio,
        "transcriber": topics.calls_utterances,
        "summarizer": topics.calls_transcribed,
        "reviewer": topics.reviews_submitted,
    }
    asyncio.run(check_access(using))
    ids = asyncio.run(kafka.topic_ids(using, list(read.values())))
    current = using.run or in_transaction(using, runs.current)
    done = {
        (row.key.stage, row.key.partition): row.next_offset
        for row in in_transaction(using, ledger.rows)
        if row.key.topic_id == ids.get(row.key.topic)
        and row.key.run_id == (runs.CUT_RUN if row.key.stage == "segmenter" else current)
    }
    try:
        consumer = KafkaConsumer(**kafka.aio_options(using))
        try:
            return {stage: left(consumer, topic, stage, done) for stage, topic in read.items()}
        finally:
            consumer.close()
    except KafkaError as err:
        raise Transient(f"Kafka does not tell its offsets ({type(err).__name__})") from err


def left(consumer: KafkaConsumer, topic: str, stage: str, done: dict[tuple[str, int], int]) -> int:
    places = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic) or ()]
    starts, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
    return sum(max(0, ends[one] - max(starts[one], done.get((stage, one.partition), 0))) for one in places)
