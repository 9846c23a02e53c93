"""Test 12: everything again: produced twice, the group reset, the ledger's rows gone, a day over. The rows stay what they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import psycopg
import pytest
from kafka import KafkaAdminClient
from tritonclient.grpc import InferenceServerClient

from stack.stack import Stack
from tests.faults.chaos import Chaos
from tests.faults.load import Load
from tests.faults.results import Figures
from tests.workers.pipeline import STAGES

DAY_SECONDS = 24 * 3_600
FACTS = ("reviews", "aspect_mentions", "utterances", "summaries", "call_runs", "calls", "dead_letters")


def rows_of(p: Chaos) -> dict[str, int]:
    return {name: p.one(f"SELECT count(*) FROM ingest.{name}") for name in FACTS}


def bytes_of(p: Chaos) -> int:
    """Of the facts, in tables."""
    size: int = p.one(
        "SELECT sum(pg_relation_size(oid))::int FROM pg_class WHERE relkind = 'r' AND relname ~"
        " '^(reviews|review_texts|aspect_mentions|utterances|utterance_texts|summaries|summary_texts|call_runs)(_p|$)'"
    )
    return size


def inferences(stack: Stack) -> int:
    """Requests that the models have answered."""
    client = InferenceServerClient(stack.endpoints["triton"])
    try:
        return sum(
            int(one.inference_stats.success.count)
            for name in ("whisper", "aspects", "cvib")
            for one in client.get_inference_statistics(name).model_stats
        )
    finally:
        client.close()


def forget_groups(p: Chaos) -> None:
    """Kafka's committed offsets of all stages go: the group begins at the log's start."""
    admin = KafkaAdminClient(bootstrap_servers=p.stack.endpoints["kafka"])
    groups = [one["group_id"] if isinstance(one, dict) else one[0] for one in admin.list_groups()]
    mine = [name for name in groups if name.startswith(p.topics.prefix)]
    assert len(mine) == len(STAGES)
    admin.delete_groups(mine)
    admin.close()


def restart(p: Chaos) -> None:
    for worker in p.workers:
        worker.start()
    p.disturbed()


def stop(p: Chaos) -> None:
    assert {worker.name: worker.stop() for worker in p.workers} == dict.fromkeys([one.name for one in p.workers], 0)


@pytest.mark.proof(12)
@pytest.mark.timeout(300)
def test_everything_again(stack: Stack, small: Load, small_content: list[str], figures: Figures) -> None:
    with Chaos(stack) as p:
        p.expects_deaths = False
        p.start()
        items = small.items(p.topics)
        p.send(items)
        p.wait_until_settled(120)
        before, asked, size = rows_of(p), inferences(stack), bytes_of(p)

        # Produced twice: a higher offset, the same chunk, version, deletion.
        p.produce([item.message for item in items if not item.reason])
        p.disturbed()
        p.wait_until_settled(120)
        assert rows_of(p) == before
        p.verify(figures, small, "produced twice", small_content)
        assert inferences(stack) == asked
        kinds = Counter(
            dict(p.rows("SELECT kind, sum(last_offset - first_offset + 1)::int FROM ingest.verdicts GROUP BY 1"))
        )
        assert kinds["superseded"] == small.reviews
        assert kinds["duplicate"] >= small.calls * 16

        # The group starts again at 0; the ledger does not.
        stop(p)
        forget_groups(p)
        verdicts = p.rows("SELECT count(*) FROM ingest.verdicts")
        restart(p)
        p.wait(lambda: p.one("SELECT min(epoch) FROM ingest.ledger") == 2, "all partitions are owned again")
        p.wait_until_settled(120)
        assert p.rows("SELECT count(*) FROM ingest.verdicts") == verdicts
        assert rows_of(p) == before
        p.verify(figures, small, "produced twice; the group's offsets gone", small_content)

        # The ledger forgets everything too, and it is tomorrow: every record is looked at again, nothing new comes of it.
        stop(p)
        p.workers.clear()
        forget_groups(p)
        with psycopg.connect(p.url, autocommit=True) as connection:
            connection.execute("TRUNCATE ingest.ledger, ingest.verdicts CASCADE")
        for stage in STAGES:
            p.worker(stage, 1, module="tests.faults.shifted", env={"FAULT_CLOCK": str(DAY_SECONDS)})
        p.disturbed()
        p.wait(lambda: p.one("SELECT count(*) FROM ingest.ledger") == len(STAGES) * p.partitions, "a new ledger")
        p.wait_until_settled(120)
        assert rows_of(p) == before
        # Whatever was a result is known by now; what can never succeed still cannot.
        known = frozenset({"duplicate", "superseded", "late", "control"})
        p.manifest.entries = [replace(one, kinds=one.kinds | known) for one in p.manifest.entries]
        p.verify(
            figures,
            small,
            "produced twice; the group's offsets gone; then the ledger's rows, too, and a day over",
            small_content,
            growth=round(bytes_of(p) / size - 1, 4),
        )
        assert bytes_of(p) <= 1.01 * size
