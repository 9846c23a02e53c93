"""A header whose name is not UTF-8, as the broker takes it, stops nobody."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import KafkaProducer

from stack.stack import Stack
from tests.workers.pipeline import Pipeline
from tests.workers.sending import messages, review


class Bytes(str):
    """A name that goes over the wire as it is."""

    def __new__(cls, raw: bytes) -> Bytes:
        made = super().__new__(cls, raw.decode("latin-1"))
        made.raw = raw  # type: ignore[attr-defined]
        return made

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        raw: bytes = self.raw  # type: ignore[attr-defined]
        return raw


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_name_of_any_bytes_costs_no_record_anything(stack: Stack, compression: str | None) -> None:
    """In the middle of a batch, of which a part is done already; the record that cannot succeed keeps its headers."""
    with Pipeline(stack, partitions=1) as p:
        good = messages(p.topics, [review(f"r{number}") for number in range(6)])
        producer = KafkaProducer(
            bootstrap_servers=stack.endpoints["kafka"], acks="all", linger_ms=200, compression_type=compression
        )
        sent = []
        for number, one in enumerate(good):
            odd = [(Bytes(b"\xff\xfename"), b"\x00"), ("x-fine", b"1")] if number in (2, 4) else []
            value = b"no json" if number == 4 else one.value
            headers = [*one.headers, *odd]
            sent.append(producer.send(one.topic, key=one.key, value=value, headers=headers, partition=0))
        producer.flush(30)
        producer.close()
        assert [one.get(1).offset for one in sent] == list(range(6))
        p.worker("reviewer")
        p.wait(lambda: p.one("SELECT max(next_offset) FROM ingest.ledger WHERE stage = 'reviewer'") == 6, "all of them")
        found = p.rows("SELECT first_offset, last_offset, kind, reason FROM ingest.verdicts ORDER BY first_offset")
        kinds = {offset: kind for first, last, kind, _ in found for offset in range(first, last + 1)}
        assert kinds == dict.fromkeys(range(6), "result") | {4: "dead_letter"}
        p.wait(lambda: p.one("SELECT count(*) FROM ingest.outbox") == 0, "the dead letter is published")
        [letter] = p.records(p.topics.dlt(p.topics.reviews_submitted))
        assert dict(letter.headers)["\\xff\\xfename"] == b"\x00"
        assert dict(letter.headers)["x-fine"] == b"1"
