"""Test 12, further: servers that go back in time, logs that lose an end, topics that are made again, and no order at all."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable

import psycopg
import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError
from pydantic import SecretStr

from commands.topics import pad
from settings import Settings
from stack.stack import Stack
from tests.faults.chaos import Chaos
from tests.faults.load import Load
from tests.faults.oracle import content, difference, examine
from tests.faults.results import Figures
from tests.faults.test_repeats import restart, stop

SEED = 12


@pytest.mark.proof(12)
@pytest.mark.timeout(300)
def test_postgres_restored_to_an_older_state(
    stack: Stack, small: Load, small_content: list[str], figures: Figures
) -> None:
    """Kafka's committed offsets are ahead of the ledger then; reading goes back to the watermark."""
    with Chaos(stack) as p:
        p.expects_deaths = False
        p.start()
        first, second = small.slices(p.topics, 2)
        p.send(first)
        p.wait_until_settled(120)
        stop(p)
        server = stack.endpoints["postgres_url"]
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {p.name}_older TEMPLATE {p.name}")  # type: ignore[call-overload]
        restart(p)
        p.send(second)
        p.wait_until_settled(120)
        stop(p)
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {p.name} WITH (FORCE)")  # type: ignore[call-overload]
            admin.execute(f"ALTER DATABASE {p.name}_older RENAME TO {p.name}")  # type: ignore[call-overload]
        assert difference(content(p), small_content)
        restart(p)
        p.wait_until_settled(120)
        p.verify(figures, small, "Postgres goes back to where half was done", small_content, ids_rise=False)


@pytest.mark.proof(12)
@pytest.mark.timeout(200)
def test_a_log_trimmed_past_the_watermark(stack: Stack, figures: Figures) -> None:
    """What Kafka dropped is known to the offset, and is all that is missing."""
    load = Load(seed=SEED, reviews=60, calls=0, poison=0)
    with Chaos(stack, partitions=1) as p:
        p.expects_deaths = False
        p.start(["reviewer"])
        first, second = load.slices(p.topics, 2)
        p.send(first)
        p.wait_until_settled(60)
        stop(p)
        p.send(second)
        admin = KafkaAdminClient(bootstrap_servers=stack.endpoints["kafka"])
        admin.delete_records({TopicPartition(p.topics.reviews_submitted, 0): 45})
        admin.close()
        restart(p)
        p.wait(lambda: p.lag("reviewer") == 0 and p.settled(), "the rest is done", 60)
        lost = p.rows(
            "SELECT stage, first_offset, last_offset FROM ingest.lost_ranges JOIN ingest.ledger USING (ledger_id)"
        )
        assert lost == [("reviewer", 30, 44)]
        gone = {one.subject for one in p.manifest.entries if 30 <= one.offset < 45}
        assert len(gone) == 15
        there = {name for (name,) in p.rows("SELECT review_id FROM ingest.reviews")}
        assert there == {one.subject for one in p.manifest.entries} - gone
        assert "offsets.lost" in p.workers[0].log.read_text()
        p.manifest.entries = [one for one in p.manifest.entries if one.subject not in gone]
        found = examine(p, p.manifest)
        figures.oracle(found)
        figures.note(load=str(load), faults="15 records deleted before they were read", lost=15, seed=SEED)
        assert sorted(found.missing) == [f"verdict {p.topics.reviews_submitted}/0/{n}" for n in range(30, 45)]
        found.missing = []
        assert found.clean, found


def eventually(act: Callable[[], object], seconds: float = 30) -> None:
    """Kafka deletes a topic in its own time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            act()
            return
        except KafkaError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def make_again(p: Chaos, names: list[str]) -> None:
    """Delete these topics, and make them as they were."""
    p.manifest.logs.update(names)
    admin = KafkaAdminClient(bootstrap_servers=p.stack.endpoints["kafka"])
    specs = {one.name: one for one in p.topics.specs(p.partitions)}
    try:
        admin.delete_topics(names)
        for name in names:
            topic = NewTopic(name, p.partitions, 1, topic_configs=dict(specs[name].config))
            eventually(lambda topic=topic: admin.create_topics([topic]))  # type: ignore[misc]
    finally:
        admin.close()


@pytest.mark.proof(12)
@pytest.mark.timeout(300)
def test_topics_deleted_and_made_again(stack: Stack, small: Load, small_content: list[str], figures: Figures) -> None:
    """Half-way, with calls open: they go on, offsets begin anew, and nothing that is done is taken for something else."""
    with Chaos(stack) as p:
        p.expects_deaths = False
        p.start()
        first, second = small.slices(p.topics, 2)
        p.send(first)
        p.wait_until_settled(120)
        assert p.one("SELECT count(*) FROM ingest.segmenter_state") > 0
        stop(p)
        topics = [p.topics.calls_audio, p.topics.reviews_submitted]
        before = sum(sum(p.ends(name).values()) for name in topics)
        make_again(p, topics)
        p.send(second)
        restart(p)
        after = sum(sum(p.ends(name).values()) for name in topics)
        judged = (
            "SELECT coalesce(sum(v.last_offset - v.first_offset + 1), 0)::int FROM ingest.verdicts v"
            " JOIN ingest.ledger l USING (ledger_id) WHERE l.topic = ANY(%s)"
        )
        p.wait(lambda: p.one(judged, topics) == before + after, "all is judged", 120)
        p.wait(
            lambda: len(p.rows("SELECT 1 FROM ingest.call_runs WHERE state = 'analysed'")) == small.calls, "all calls"
        )
        p.wait(lambda: p.one("SELECT count(*) FROM ingest.outbox") == 0, "all is published")
        p.verify(figures, small, "both input topics made again half-way", small_content)


@pytest.mark.proof(12)
@pytest.mark.timeout(300)
def test_everything_out_of_order(stack: Stack, small: Load, small_content: list[str], figures: Figures) -> None:
    """Chunks within the window that is waited for, reviews anyhow."""
    dice = random.Random(SEED)
    with Chaos(stack) as p:
        p.expects_deaths = False
        p.start()
        items = small.items(p.topics)
        reviews = [index for index, one in enumerate(items) if one.subject.startswith("review-")]
        for index, other in zip(reviews, dice.sample(reviews, len(reviews)), strict=True):
            items[index], items[other] = items[other], items[index]
        for number in range(small.calls):
            chunks = [index for index, one in enumerate(items) if one.subject == f"call-{number}"][1:-1]
            window = dice.sample(chunks[:10], 10) + dice.sample(chunks[10:], len(chunks) - 10)
            moved = [items[index] for index in window]
            for index, item in zip(chunks, moved, strict=True):
                items[index] = item
        p.send(items)
        p.wait_until_settled(120)
        faults = "chunks out of order by up to ten, reviews by any number"
        p.verify(figures, str(small), faults, small_content, seed=SEED)


@pytest.mark.chaos
@pytest.mark.proof(12)
@pytest.mark.timeout(400)
def test_kafka_restored_to_an_older_state(
    own_stack: Stack, small: Load, small_content: list[str], figures: Figures
) -> None:
    """Its logs end before the watermarks. Nothing is read until they are padded; then producers send once more."""
    kafka = next(one for one in own_stack.servers if one.name == "kafka")
    data, copy = own_stack.home / "kafka", own_stack.home / "kafka-older"
    with Chaos(own_stack) as p:
        p.expects_deaths = False
        p.start()
        first, second = small.slices(p.topics, 2)
        p.send(first)
        p.wait_until_settled(120)
        stop(p)
        kafka.stop()
        shutil.copytree(data, copy)
        kafka.start()
        restart(p)
        p.send(second)
        p.wait_until_settled(120)
        stop(p)
        kafka.stop()
        shutil.rmtree(data)
        copy.rename(data)
        kafka.start()
        p.expects_deaths = True
        restart(p)
        for worker in p.workers:
            p.wait(
                lambda worker=worker: 'see \\"Kafka lost records\\"' in worker.log.read_text(), f"{worker.name} says it"
            )  # type: ignore[misc]
        settings = Settings(
            kafka_bootstrap_servers=own_stack.endpoints["kafka"],
            postgres_url=SecretStr(p.url),
            topic_prefix=p.topics.prefix,
            partitions=p.partitions,
        )
        assert pad(settings)
        p.produce([item.message for item in second if not item.reason])
        p.disturbed()
        p.wait(p.settled, "all is done once more", 150)
        p.verify(figures, small, "Kafka goes back to where half was sent", small_content, kafka=False)
