"""How many records each stage has yet to read: the ends of Kafka's partitions less the ledger's watermarks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, for_code
from sqlalchemy.exc import DBAPIError

from commands.context import transaction
from errors import Transient
from settings import Settings
from store import ledger, runs
from stream.topics import Topics
from workers import kafka
from workers.access import check_access
from workers.stages import STAGES, topic_of

__all__ = ["lag"]

ANSWER_MS = 10_000


def lag(using: Settings) -> dict[str, int]:
    """By stage, in the run that it works for. Raises EarfulError where Kafka or Postgres does not say."""
    topics = Topics(using.topic_prefix)
    read = {stage: topic_of(stage, topics) for stage in STAGES}
    asyncio.run(check_access(using))
    ids = asyncio.run(kafka.topic_ids(using, list(read.values())))
    try:
        current = using.run or transaction(using, runs.current)
        rows = transaction(using, ledger.rows)
    except DBAPIError as err:
        raise Transient("Postgres does not tell how far the stages are") from err
    done = {
        (key.topic, key.partition): next_offset
        for key, next_offset in rows
        if key.topic_id == ids.get(key.topic) and key.run_id == (runs.CUT_RUN if key.stage == "segmenter" else current)
    }
    try:
        left = left_of(using, list(read.values()), done)
    except KafkaError as err:
        raise Transient(f"Kafka does not tell its offsets ({type(err).__name__})") from err
    return {stage: left[topic] for stage, topic in read.items()}


def left_of(using: Settings, topics: Sequence[str], done: Mapping[tuple[str, int], int]) -> dict[str, int]:
    """By topic. Raises KafkaError, also where Kafka does not tell of one of them; after ANSWER_MS at most for each question."""
    patience = {"bootstrap_timeout_ms": ANSWER_MS, "request_timeout_ms": ANSWER_MS}
    client = KafkaAdminClient(**kafka.aio_options(using), **patience)
    try:
        told = client.describe_topics(topics)
        for topic in told:
            if topic["error_code"]:  # it has no partitions then, as if nothing were left
                raise for_code(topic["error_code"])(topic["name"])
        places = [
            TopicPartition(topic["name"], partition["partition_index"])
            for topic in told
            for partition in topic["partitions"]
        ]
        starts = client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
        ends = client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
    finally:
        client.close()
    left = dict.fromkeys(topics, 0)
    for one in places:
        first = max(starts[one].offset, done.get((one.topic, one.partition), 0))
        left[one.topic] += max(0, ends[one].offset - first)
    return left
