"""A dead letter always finds room: in Kafka's record, in Postgres' index."""

from __future__ import annotations

import random
from dataclasses import replace
from uuid import UUID

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Permanent
from store import dead_letters
from store.ledger import LedgerKey
from stream.records import Record
from stream.topics import Topics
from workers.dead_letter import dead_letter, for_topic
from workers.provenance import source_of
from workers.stage import Batch, Work

TOPICS = Topics("")
KEY = LedgerKey(stage="reviewer", run_id=UUID(int=1), topic=TOPICS.reviews_submitted, topic_id=UUID(int=2), partition=0)
#: message.max.bytes of a broker, less what frames a batch.
LIMIT = 1_048_588 - 61


def record(*, key: int = 10, value: int = 10, headers: int = 0, count: int = 1, timestamp_ms: int = 0) -> Record:
    return Record(
        topic=KEY.topic,
        partition=0,
        offset=7,
        timestamp_ms=timestamp_ms,
        key=b"k" * key,
        value=b"v" * value,
        headers=tuple((f"h{n}", b"x" * (headers // count)) for n in range(count)),
    )


@pytest.mark.parametrize(
    "source",
    [
        record(value=1_000_000),
        record(value=1_048_300),
        record(value=980_000, headers=68_350),
        record(headers=1_048_400),
        record(headers=900_000, count=9_000),
        record(key=1_048_400),
    ],
    ids=["largest_event", "value", "value_and_headers", "headers", "many_headers", "key"],
)
def test_any_record_that_kafka_took_fits_its_dead_letter_topic(source: Record) -> None:
    letter = dead_letter(KEY, source, Permanent("too_large", "the value is too large"))
    message = for_topic(letter, TOPICS)
    headers = [*message.headers, ("outbox_id", str(2**63).encode())]
    assert DefaultRecordBatchBuilder.estimate_size_in_bytes(message.key, message.value, headers) <= LIMIT
    assert dict(message.headers)["__connect.errors.exception.class.name"] == b"too_large"
    if message.value is None:
        assert dict(message.headers)["earful-value-bytes"] == str(len(source.value or b"")).encode()


def test_an_event_of_the_largest_size_keeps_its_value() -> None:
    message = for_topic(dead_letter(KEY, record(value=1_000_000), Permanent("no_text", "no text")), TOPICS)
    assert message.value == b"v" * 1_000_000


async def test_a_key_that_is_no_id_does_not_stop_postgres(engine: AsyncEngine) -> None:
    """An index entry holds 2,700 bytes, compressed; random text does not compress."""
    name = "".join(chr(random.Random(n).randint(0x4E00, 0x9FFF)) for n in range(20_000))
    work: Work[None] = Work(plan=None)
    source = replace(record(), key=name.encode())
    work.bury(Batch(key=KEY, records=[source]), source, Permanent("invalid_review_id", "too long"))
    async with engine.begin() as connection:
        await dead_letters.insert(connection, work.dead_letters)
        (stored,) = await dead_letters.list(connection)
    assert stored.letter.subject_id == name[:200]


async def test_nul_in_a_key_or_a_headers_name_does_not_stop_postgres(engine: AsyncEngine) -> None:
    source = replace(record(), key=b"a\0b", headers=(("x\0y", b"\0"),))
    async with engine.begin() as connection:
        await dead_letters.insert(connection, [dead_letter(KEY, source, Permanent("invalid_review_id", "no id"))])
        (listed,) = await dead_letters.list(connection)
        stored = await dead_letters.get(connection, listed.dead_letter_id)
    assert stored is not None
    assert (stored.letter.key, stored.letter.subject_id) == (b"a\0b", "a\ufffdb")
    assert tuple(stored.letter.headers) == (("x\ufffdy", b"\0"),)


def test_a_buried_utterance_is_named_by_its_own_id() -> None:
    source = replace(record(), key=b"call-1", headers=(("utterance_id", b"3f0c"),))
    assert dead_letter(KEY, source, Permanent("too_slow", "too slow")).subject_id == "3f0c"


@pytest.mark.parametrize("timestamp_ms", [1_700_000_000_000_000, -(10**17), 2**63 - 1])
def test_a_timestamp_that_no_calendar_holds_ends_no_worker(timestamp_ms: int) -> None:
    assert source_of(KEY, record(timestamp_ms=timestamp_ms)).at.year == 1970
