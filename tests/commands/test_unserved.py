"""Commands that write or count with nobody at work: `topics pad`, and what `demo` waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from kafka.errors import UnknownTopicOrPartitionError
from psycopg.rows import dict_row
from pydantic import SecretStr

from commands import topics
from commands.demo import missing
from commands.lag import left_of
from commands.samples import Manifest
from settings import Settings
from stack.stack import Stack
from stream.topics import Topics
from tests.workers.pipeline import Pipeline
from workers.kafka import topic_ids


@pytest.fixture(name="idle", scope="module")
def _idle(stack: Stack) -> Iterator[Pipeline]:
    """Topics and a database, without workers."""
    with Pipeline(stack) as made:
        yield made


@pytest.fixture(name="using")
def _using(idle: Pipeline) -> Settings:
    return Settings(
        kafka_bootstrap_servers=idle.stack.endpoints["kafka"],
        postgres_url=SecretStr(idle.url),
        topic_prefix=idle.topics.prefix,
        partitions=idle.partitions,
    )


def test_pad_fills_each_partition_up_to_its_watermark(
    idle: Pipeline, using: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = idle.topics.reviews_submitted
    topic_id = asyncio.run(topic_ids(using, [topic]))[topic]
    wanted = {0: 25, 1: 20, 2: 0}  # in portions of ten: two and a half, two, none
    monkeypatch.setattr(topics, "PAD_PORTION", 10)
    with psycopg.connect(idle.url) as connection:
        for partition, watermark in wanted.items():
            connection.execute(
                "INSERT INTO ingest.ledger (stage, run_id, topic, topic_id, partition, next_offset, epoch)"
                " VALUES ('reviewer', %s, %s, %s, %s, %s, 1)",
                (idle.run_id, topic, topic_id, partition, watermark),
            )
    assert topics.pad(using) == {f"{topic}/0": 25, f"{topic}/1": 20}
    assert idle.ends(topic) == wanted
    assert {(record.key, record.value) for record in idle.records(topic)} == {(b"earful.pad", None)}
    assert topics.pad(using) == {}


def test_a_topic_that_kafka_does_not_tell_of_is_never_read_to_its_end(idle: Pipeline, using: Settings) -> None:
    there = idle.topics.calls_transcribed
    assert left_of(using, [there], {}) == {there: 0}
    with pytest.raises(UnknownTopicOrPartitionError):
        left_of(using, [there, "no.such.topic"], {})


def test_the_demo_waits_for_the_very_dead_letters_of_its_poison(idle: Pipeline) -> None:
    """Others, of an earlier use of this database say, do not stand for them."""
    manifest, topics = Manifest(), Topics("acme.")
    reasons = sorted(manifest.poison_reasons())
    with psycopg.connect(idle.url, row_factory=dict_row) as connection:

        def bury(topic: str, reason: str) -> None:
            connection.execute(
                "INSERT INTO ingest.dead_letters"
                ' (dead_letter_id, stage, run_id, topic, topic_id, partition, "offset", reason, detail)'
                " VALUES (gen_random_uuid(), 'reviewer', %s, %s, gen_random_uuid(), 0, 0, %s, '')",
                (idle.run_id, topic, reason),
            )

        everything = missing(connection, manifest, topics)
        for topic, reason in reasons:
            bury(topics.insights, reason)
            bury(getattr(topics, topic), f"not_{reason}")
        assert missing(connection, manifest, topics) == everything
        for number, (topic, reason) in enumerate(reasons, start=1):
            bury(getattr(topics, topic), reason)
            assert missing(connection, manifest, topics) == everything - number
        connection.rollback()
