"""What ends a producer's transaction takes an offset in the log and is no record: nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from settings import Settings
from stack.stack import Stack
from stream.events import Message
from tests.workers.pipeline import Pipeline
from tests.workers.sending import messages, sample, whole_call
from workers import kafka


def in_transaction(p: Pipeline, sent: Sequence[Message]) -> None:
    producer = KafkaProducer(
        bootstrap_servers=p.stack.endpoints["kafka"], acks="all", transactional_id=f"{p.name}-producer"
    )
    try:
        producer.init_transactions()
        producer.begin_transaction()
        for one in sent:
            producer.send(one.topic, key=one.key, value=one.value, headers=list(one.headers), partition=0)
        producer.commit_transaction()
    finally:
        producer.close()


def test_a_call_that_never_ends_times_out_behind_a_marker(stack: Stack) -> None:
    with Pipeline(stack, partitions=1, call_silence_timeout_seconds=3) as p:
        sent = messages(p.topics, whole_call("endless", sample(end_ms=4_000)))[:-1]
        in_transaction(p, sent)
        [end] = p.ends(p.topics.calls_audio).values()
        assert end == len(sent) + 1

        def only_markers(first: int) -> bool:
            settings = Settings(kafka_bootstrap_servers=stack.endpoints["kafka"])
            return asyncio.run(kafka.only_markers(settings, p.topics.calls_audio, 0, first, end))

        assert only_markers(len(sent))
        assert not only_markers(len(sent) - 1)
        p.worker("segmenter")
        p.wait(
            lambda: p.one("SELECT close_reason FROM ingest.calls WHERE call_id = 'endless'") == "timed_out",
            "the call is closed",
        )


def test_what_kafka_removed_before_it_was_read_is_no_hole_of_the_log(stack: Stack) -> None:
    """A worker leaves then, and the next start notes what is lost; it must not wait for a record that never comes."""
    with Pipeline(stack, partitions=1) as p:
        topic = p.topics.reviews_submitted
        p.produce([Message(topic=topic, key=b"k", value=b"{}") for _ in range(5)])
        admin = KafkaAdminClient(bootstrap_servers=stack.endpoints["kafka"])
        admin.delete_records({TopicPartition(topic, 0): 3})
        admin.close()
        settings = Settings(kafka_bootstrap_servers=stack.endpoints["kafka"])
        assert asyncio.run(kafka.first_offset_from(settings, topic, 0, 3)) == 3
        with pytest.raises(kafka.Trimmed, match="begins after offset 1"):
            asyncio.run(kafka.first_offset_from(settings, topic, 0, 1))
        with pytest.raises(kafka.Trimmed, match="begins after offset 1"):
            asyncio.run(kafka.only_markers(settings, topic, 0, 1, 5))
