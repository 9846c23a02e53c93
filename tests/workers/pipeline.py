"""A pipeline of a test's own on the shared servers: its database, its topics, its worker processes.

Nothing is mocked. Waiting is always for a condition, with a deadline; an expected or unexpected end of a worker is seen.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import psycopg
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from stack.ports import Ports
from stack.stack import Stack
from store import migrate, runs
from store.engine import create
from store.schema import REVISION
from stream.events import Message, Record, Topics
from tests.workers import topic_log
from tests.workers.sending import partition_for
from tests.workers.worker import Worker

__all__ = ["PROJECT", "STAGES", "Pipeline", "Place", "template"]

PROJECT = Path(__file__).resolve().parents[2]
STAGES = ("segmenter", "transcriber", "summarizer", "reviewer")
#: The months of the tests' calls, and of what is sent now, also at midnight.
FIRST, LAST = date(2026, 5, 1), max(date(2026, 11, 1), datetime.now(UTC).date() + timedelta(days=31))
POLL_SECONDS = 0.1

T = TypeVar("T")
_numbers = count()


def template(stack: Stack) -> str:
    """Name of a migrated database on the stack's server, to be copied; made once a server."""
    name = f"pipeline_template_{REVISION}"
    url = stack.endpoints["postgres_url"]
    with psycopg.connect(url, autocommit=True) as admin:
        if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            admin.execute(f"CREATE DATABASE {name}")
            migrate.upgrade(url.rpartition("/")[0] + f"/{name}", from_month=FIRST, to_month=LAST)
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where Kafka put a message."""

    topic: str
    partition: int
    offset: int


class Pipeline:
    """Use as a context manager: whatever happens, its workers are ended at the end."""

    def __init__(self, stack: Stack, *, partitions: int = 3, **settings: object) -> None:
        """`settings` are EARFUL_* settings of the workers, in lower case."""
        self.stack = stack
        self.name = f"p{os.getpid()}n{next(_numbers)}"
        self.partitions = partitions
        self.topics = Topics(f"{self.name}.")
        self.workers: list[Worker] = []
        self.expects_deaths = False  # otherwise a worker that ends fails the test at once
        self._settings = settings
        self._template = template(stack)
        self._database()
        self.make_topics()
        self.run_id = self.open_run({"test": self.name})
        self._consumer: KafkaConsumer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.stop()
        if self._consumer is not None:
            self._consumer.close()

    # -- servers -----------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The test's own database."""
        return self.stack.endpoints["postgres_url"].rpartition("/")[0] + f"/{self.name}"

    def _database(self) -> None:
        with psycopg.connect(self.stack.endpoints["postgres_url"], autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {self.name} TEMPLATE {self._template}")

    def make_topics(self) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.stack.endpoints["kafka"])
        specs = self.topics.specs(self.partitions)
        admin.create_topics([NewTopic(one.name, one.partitions, 1, topic_configs=dict(one.config)) for one in specs])
        admin.close()

    def open_run(self, spec: Mapping[str, object], *, current: bool = True) -> UUID:
        async def ask() -> UUID:
            engine = create(self.url, application_name="test")
            async with engine.begin() as connection:
                run = await runs.open_run(connection, spec, current)
            await engine.dispose()
            return run.run_id

        return asyncio.run(ask())

    # -- workers -----------------------------------------------------------------------------------------------

    def worker(
        self,
        stage: str,
        number: int = 0,
        *,
        module: str = "workers",
        env: Mapping[str, str] | None = None,
        **settings: object,
    ) -> Worker:
        """Start a worker process of a stage. `module` is what `python -m` runs with the stage as its argument."""
        endpoints = self.stack.endpoints
        chosen: dict[str, object] = {
            "kafka_bootstrap_servers": endpoints["kafka"],
            "postgres_url": self.url,
            "triton_url": endpoints["triton"],
            "topic_prefix": self.topics.prefix,
            "partitions": self.partitions,
            "session_timeout_seconds": 6,
            **self._settings,
            **settings,
        }
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
            "PYTHONPATH": str(PROJECT),
            "LANG": "C.UTF-8",
            **{f"EARFUL_{name.upper()}": str(value) for name, value in chosen.items()},
            **(env or {}),
        }
        made = Worker(self.stack.home, f"{self.name}-{stage}-{number}", ["-m", module, stage], environment)
        self.workers.append(made)
        made.start()
        return made

    def port(self, name: str) -> int:
        """A free port for one of its workers."""
        ports = Ports(self.stack.home)
        ports.choose(f"{self.name}_{name}")
        return ports[f"{self.name}_{name}"]

    def start(self, stages: Iterable[str] = STAGES, *, instances: int = 1) -> None:
        """Start `instances` workers of each stage; they may still be starting when this returns."""
        for stage in stages:
            for number in range(instances):
                self.worker(stage, number)

    # -- in ----------------------------------------------------------------------------------------------------

    def produce(self, messages: Iterable[Message], *, partition: int | None = None) -> list[Place]:
        """Produce in this order and wait for the acknowledgements."""
        producer = KafkaProducer(
            bootstrap_servers=self.stack.endpoints["kafka"], acks="all", linger_ms=5, max_request_size=1_048_588
        )
        try:
            pending = [
                producer.send(
                    one.topic,
                    key=one.key,
                    value=one.value,
                    headers=list(one.headers),
                    # kafka-python's own partitioner sends an empty key anywhere: a test wants to know where
                    partition=partition_for(one.key or b"", self.partitions) if partition is None else partition,
                )
                for one in messages
            ]
            done = [future.get(30) for future in pending]
        finally:
            producer.close()
        return [Place(topic=one.topic, partition=one.partition, offset=one.offset) for one in done]

    # -- out ---------------------------------------------------------------------------------------------------

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(sql, parameters).fetchall()  # type: ignore[call-overload,no-any-return]

    def one(self, sql: str, *parameters: object) -> Any:
        """First column of the first row; None without a row."""
        found = self.rows(sql, *parameters)
        return found[0][0] if found else None

    def ends(self, topic: str) -> dict[int, int]:
        """The next offset of each partition of a topic."""
        if self._consumer is None:
            self._consumer = KafkaConsumer(bootstrap_servers=self.stack.endpoints["kafka"])
        places = [TopicPartition(topic, number) for number in range(self.partitions)]
        try:
            found = self._consumer.end_offsets(places)
        except KafkaError:
            self._consumer.close()
            self._consumer = None
            raise
        return {place.partition: offset for place, offset in found.items()}

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, partition by partition."""
        return topic_log.read(self.stack.endpoints["kafka"], topic, self.ends(topic))

    def verdict(self, stage: str, place: Place) -> tuple[str, str | None] | None:
        """Kind and reason of an offset; None if it has none. More than one fails."""
        found = self.rows(
            "SELECT v.kind, v.reason FROM ingest.verdicts v JOIN ingest.ledger l USING (ledger_id)"
            " WHERE l.stage = %s AND l.topic = %s AND l.partition = %s AND %s BETWEEN first_offset AND last_offset",
            stage, place.topic, place.partition, place.offset,
        )  # fmt: skip
        assert len(found) <= 1, f"{place} has {len(found)} verdicts"
        return found[0] if found else None

    def lag(self, stage: str, run_id: UUID | None = None) -> int:
        """Records of the stage's topic, as it was made last, that its ledger has not reached."""
        topic = self.topic_of(stage)
        ends = self.ends(topic)
        done = dict(
            self.rows(
                "SELECT partition, max(next_offset) FROM ingest.ledger WHERE stage = %s AND topic = %s"
                " AND (%s::uuid IS NULL OR run_id = %s)"
                " AND topic_id = (SELECT topic_id FROM ingest.ledger WHERE topic = %s ORDER BY ledger_id DESC LIMIT 1)"
                " GROUP BY 1",
                stage, topic, run_id, run_id, topic,
            )
        )  # fmt: skip
        return sum(end - done.get(partition, 0) for partition, end in ends.items())

    def topic_of(self, stage: str) -> str:
        return dict(zip(STAGES, self.topics.consumed, strict=True))[stage]

    def settled(self) -> bool:
        """Nothing is left to do. Asked in the order of the data's way, so that nothing can slip behind the question."""
        try:
            return (
                not self.lag("segmenter")
                and not self.lag("transcriber")
                and self.one("SELECT count(*) FROM ingest.outbox") == 0
                and not self.lag("summarizer")
                and not self.lag("reviewer")
                and self.one("SELECT count(*) FROM ingest.outbox") == 0
            )
        except (KafkaError, psycopg.Error):
            return False

    def wait(self, holds: Callable[[], T], what: str, seconds: float = 60) -> T:
        """The first true answer of `holds`. Fails when the time is over, with the ends of the workers' logs."""
        deadline = time.monotonic() + seconds
        while not (answer := holds()):
            if not self.expects_deaths and any(one.returncode is not None for one in self.workers):
                raise AssertionError(f"a worker ended while waiting for: {what}\n{self.report()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.report()}")
            time.sleep(POLL_SECONDS)
        return answer

    def wait_until_settled(self, seconds: float = 60) -> None:
        self.wait(self.settled, "everything is done", seconds)

    def report(self) -> str:
        """Who runs, and what they said last: for the message of a test that fails."""
        parts = [f"== {one.name} pid {one.pid} exit {one.returncode}\n{one.tail()}" for one in self.workers]
        try:
            lags = {stage: self.lag(stage) for stage in STAGES}
            parts.append(f"lag {lags}; outbox {self.one('SELECT count(*) FROM ingest.outbox')}")
        except (KafkaError, psycopg.Error) as err:
            parts.append(f"the servers do not answer: {err!r}")
        return "\n".join(parts)
