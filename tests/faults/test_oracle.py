"""The oracle finds what it looks for: something is taken from, or added to, what a run without faults has left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from stack.stack import Stack
from stream.events import Message, Record
from tests.faults.chaos import Chaos
from tests.faults.load import Load
from tests.faults.oracle import Findings, examine, falling

#: One more call, of which Kafka knows nothing.
ANOTHER = (
    'INSERT INTO ingest.{0} SELECT (jsonb_populate_record(one, \'{{"call_id": "call-9"}}\')).* FROM ingest.{0} one'
    " WHERE call_id = 'call-1'"
)
SOME = Load(seed=3, reviews=20, calls=2, poison=0.1)


@pytest.fixture(scope="module")
def done(stack: Stack) -> Iterator[Chaos]:
    """Settled, and without workers, so that its database can be copied."""
    with Chaos(stack, partitions=1) as p:
        p.expects_deaths = False
        p.start()
        p.send(SOME.items(p.topics))
        p.wait_until_settled(150)
        for worker in p.workers:
            worker.stop()
        yield p


@contextmanager
def tampered(p: Chaos, sql: str) -> Iterator[None]:
    """`p` has a copy of its database, to which this was done."""
    name, copy = p.name, f"{p.name}_tampered"
    with psycopg.connect(p.stack.endpoints["postgres_url"], autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {copy} TEMPLATE {name}")
        try:
            p.name = copy
            with psycopg.connect(p.url, autocommit=True) as connection:
                assert connection.execute(sql).rowcount > 0
            yield
        finally:
            p.name = name
            admin.execute(f"DROP DATABASE {copy} WITH (FORCE)")


def test_nothing_is_wrong_with_what_was_not_touched(done: Chaos) -> None:
    assert examine(done, done.manifest).clean


@pytest.mark.parametrize(
    ("sql", "kind", "says"),
    [
        ("DELETE FROM ingest.reviews WHERE review_id = 'review-3'", "missing", "review review-3"),
        ("UPDATE ingest.reviews SET review_id = 'review-x' WHERE review_id = 'review-3'", "extra", "review review-x"),
        ("DELETE FROM pii.review_texts WHERE review_id = 'review-3'", "missing", "text of review-3"),
        ("DELETE FROM ingest.aspect_mentions WHERE review_id = 'review-3'", "wrong", "review review-3 does not have"),
        ("DELETE FROM ingest.verdicts WHERE kind = 'dead_letter'", "missing", "verdict "),
        ("UPDATE ingest.verdicts SET kind = 'late' WHERE kind = 'consumed'", "wrong", "call-0 "),
        ("UPDATE ingest.verdicts SET last_offset = last_offset + 99 WHERE (ledger_id, first_offset) IN"
         " (SELECT ledger_id, max(first_offset) FROM ingest.verdicts GROUP BY 1)", "extra", "verdict "),
        ("DELETE FROM ingest.call_runs WHERE call_id = 'call-1'", "missing", "call call-1"),
        ("DELETE FROM ingest.call_runs WHERE call_id = 'call-1'", "extra", "transcribed call call-1/"),
        (f"{ANOTHER.format('calls')}; {ANOTHER.format('call_runs')}", "missing", "transcribed call call-9/"),
        (f"{ANOTHER.format('calls')}; {ANOTHER.format('call_runs')}", "missing", "insight call/call-9/"),
        ("UPDATE ingest.call_runs SET state = 'transcribed'", "wrong", "call-0 is transcribed"),
        ("DELETE FROM ingest.utterances WHERE call_id = 'call-0'", "missing", "utterance call-0/"),
        ("DELETE FROM ingest.dead_letters", "missing", "dead letter "),
        ("DELETE FROM ingest.dead_letters", "extra", "published letter "),
        ("DELETE FROM pii.dead_letter_payloads; UPDATE ingest.dead_letters SET dead_letter_id = gen_random_uuid()",
         "missing", "published letter "),
        ("UPDATE pii.dead_letter_payloads SET value = 'x'", "extra", "dead letter "),
        (
            "INSERT INTO ingest.segmenter_state SELECT topic_id, partition, call_id, '' FROM ingest.calls",
            "extra",
            "open call call-",
        ),
    ],
)  # fmt: skip
def test_what_is_amiss_is_found(done: Chaos, sql: str, kind: str, says: str) -> None:
    with tampered(done, sql):
        found = examine(done, done.manifest)
    assert any(one.startswith(says) for one in getattr(found, kind)), found


def test_what_nobody_should_have_published_is_found(done: Chaos) -> None:
    """The last test with this pipeline: what is in Kafka stays."""
    foreign = Message(topic=done.topics.insights, key=b"k", value=b"{}", headers=(("ce_id", b"call/nobody/none"),))
    done.produce([foreign])
    found: Findings = examine(done, done.manifest)
    assert found.extra == ["insight call/nobody/none"]
    assert [one.endswith("has no outbox_id") for one in found.wrong] == [True]


def log(*published: tuple[bytes, int]) -> list[Record]:
    """A partition of (key, outbox_id); the message of an id is always the same."""
    return [
        Record(
            topic="t",
            partition=0,
            offset=offset,
            timestamp_ms=0,
            key=key,
            value=b"%d" % number,
            headers=(("outbox_id", b"%d" % number),),
        )
        for offset, (key, number) in enumerate(published)
    ]


@pytest.mark.parametrize(
    ("published", "bad"),
    [
        ([(b"a", 1), (b"b", 2), (b"a", 3)], 0),
        ([(b"a", 1), (b"a", 3), (b"a", 1), (b"a", 3), (b"a", 4)], 0),  # repeats
        ([(b"b", 2), (b"a", 1)], 0),  # another key
        ([(b"", 2), (b"", 1)], 0),  # no key, no order
        ([(b"a", 3), (b"a", 1)], 1),
        ([(b"a", 1), (b"a", 5), (b"a", 4), (b"a", 2)], 2),
        ([(b"a", 1), (b"b", 1)], 1),  # one id, two messages
    ],
)
def test_ids_of_the_outbox(published: list[tuple[bytes, int]], bad: int) -> None:
    assert len(falling(log(*published))) == bad
