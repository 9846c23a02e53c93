"""Live audio comes chunk by chunk; Kafka holds it back a little, so that a transaction has many of them."""

from __future__ import annotations

import time

from kafka import KafkaProducer

from stack.stack import Stack
from tests.workers.pipeline import Pipeline
from tests.workers.sending import chunks, messages, sample, started

CHUNKS = 60


#: Of the 60; without being held back they were 20 to 60 on a quiet machine.
MOST = 6


def test_chunks_that_come_one_by_one_share_transactions(stack: Stack) -> None:
    """Each commit writes its own range of verdicts, so the ranges tell the transactions."""
    call = [started("live"), *chunks("live", sample(end_ms=200 * CHUNKS), chunk_ms=200)]
    with Pipeline(stack, partitions=1, audio_wait_seconds=1, batch_wait_seconds=0.001) as p:
        p.worker("segmenter")
        first, *others = messages(p.topics, call)
        p.produce([first])
        p.wait(lambda: p.lag("segmenter") == 0, "the call has begun")
        producer = KafkaProducer(bootstrap_servers=stack.endpoints["kafka"], acks="all")
        for one in others:
            producer.send(one.topic, key=one.key, value=one.value, headers=list(one.headers)).get(30)
            time.sleep(0.02)  # the pace of ten live calls
        producer.close()
        p.wait(lambda: p.lag("segmenter") == 0, "all chunks")
        transactions = p.one("SELECT count(*) FROM ingest.verdicts WHERE first_offset > 0")
        assert transactions <= MOST
