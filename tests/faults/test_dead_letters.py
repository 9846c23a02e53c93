"""Test 11: dead letters that cannot be written or published: the stage pauses, drops nothing, and says so."""

from __future__ import annotations

import hashlib
import re
import urllib.request

import psycopg
import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from stack.stack import Stack
from stream.events import Message
from tests.faults.chaos import Chaos
from tests.faults.load import Item
from tests.faults.results import Figures
from tests.faults.sending import BURY, poison, reviews
from tests.workers.pipeline import Place

LIMIT = 10
#: As much as the broker takes of a value whose dead letter has headers of its own.
LARGE = b'{"text":"' + b"x" * 1_048_430


def metric(port: int, name: str) -> float:
    """The sum over its labels; 0 before the worker answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return 0.0
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def largest(p: Chaos, size: int) -> None:
    """Bytes of a message that the reviews' dead-letter topic takes."""
    name = p.topics.dlt(p.topics.reviews_submitted)
    admin = KafkaAdminClient(bootstrap_servers=p.stack.endpoints["kafka"])
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": str(size)})])
    finally:
        admin.close()


@pytest.mark.chaos
@pytest.mark.proof(11)
@pytest.mark.timeout(200)
def test_a_dead_letter_topic_that_takes_nothing(stack: Stack, figures: Figures) -> None:
    """The outbox keeps them; over its bound the stage pauses. What is not refused goes on until then."""
    with Chaos(stack, partitions=1, review_batch=8, outbox_limit=LIMIT) as p:
        p.expects_deaths = False
        largest(p, 100)
        port = p.port("health")
        p.worker("reviewer", health_port=port)
        p.send([*reviews(p, 0, 5), *poison(p, range(3 * LIMIT))])
        p.wait(lambda: metric(port, "earful_outbox_rows") > LIMIT, "the outbox is over its bound")
        p.send(reviews(p, 5, 50))
        p.wait(lambda: "the outbox holds" in p.workers[0].log.read_text(), "the stage pauses")
        refused = p.wait(lambda: metric(port, "earful_relay_failures_total"), "Kafka refuses")
        assert p.lag("reviewer") > 0
        waiting = p.one("SELECT count(*) FROM ingest.outbox WHERE topic LIKE '%%.dlt'")
        buried = p.one("SELECT count(*) FROM ingest.dead_letters")
        assert waiting == buried > LIMIT  # none is dropped
        p.wait(lambda: any(one.key == b"review-0" for one in p.records(p.topics.insights)), "insights go on")
        largest(p, 1_048_588)
        p.disturbed()
        p.wait_until_settled(100)
        p.verify(figures, "55 reviews", f"{3 * LIMIT} dead letters that their topic refuses", refused=int(refused))


@pytest.mark.chaos
@pytest.mark.proof(11)
@pytest.mark.timeout(200)
@pytest.mark.parametrize("state", ["disk_full", "insufficient_privilege"])
def test_a_dead_letter_table_that_takes_nothing(stack: Stack, figures: Figures, state: str) -> None:
    """The batch is tried again, as it is, until the table is well: no record is dropped, and none gets another reason."""
    with Chaos(stack, partitions=1, review_batch=8) as p:
        p.expects_deaths = False
        port = p.port("health")
        with psycopg.connect(p.url, autocommit=True) as connection:
            connection.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"  # type: ignore[call-overload]
                f" $$ BEGIN RAISE {state} USING MESSAGE = 'no letters today'; END $$;"
                " CREATE TRIGGER refuse BEFORE INSERT ON ingest.dead_letters FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
            p.worker("reviewer", health_port=port)
            p.send([*reviews(p, 0, 20), *poison(p, range(1)), *reviews(p, 20, 20)])
            p.wait(lambda: metric(port, "earful_batch_retries_total") >= 6, "it is tried again and again")
            assert "no letters today" in p.workers[0].log.read_text()
            done = p.one("SELECT next_offset FROM ingest.ledger WHERE stage = 'reviewer'")
            assert done <= 20
            assert p.verdict("reviewer", Place(topic=p.topics.reviews_submitted, partition=0, offset=20)) is None
            connection.execute("DROP TRIGGER refuse ON ingest.dead_letters")
        p.disturbed()
        p.wait_until_settled(60)
        p.verify(figures, "40 reviews", f"the table of dead letters refuses: {state}")


@pytest.mark.chaos
@pytest.mark.proof(11)
@pytest.mark.timeout(200)
def test_a_dead_letter_too_large_for_its_topic(stack: Stack, figures: Figures) -> None:
    """Published without its value, with size and sha256 in headers; whole in the table."""
    with Chaos(stack, partitions=1) as p:
        p.expects_deaths = False
        p.start(["reviewer"])
        message = Message(topic=p.topics.reviews_submitted, key=b"large", value=LARGE)
        p.send([*reviews(p, 0, 5), Item(subject="large", message=message, kinds=BURY, reason="too_large")])
        p.wait_until_settled(60)
        [letter] = p.records(p.topics.dlt(p.topics.reviews_submitted))
        headers = dict(letter.headers)
        assert (letter.key, letter.value) == (b"large", None)
        assert headers["earful-value-bytes"] == str(len(LARGE)).encode()
        assert headers["earful-value-sha256"] == hashlib.sha256(LARGE).hexdigest().encode()
        assert p.one("SELECT value FROM pii.dead_letter_payloads") == LARGE
        p.verify(figures, "5 reviews", f"a record of {len(LARGE)} bytes")
