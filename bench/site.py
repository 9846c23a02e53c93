"""One deployment of a benchmark's own on the servers of the rig: a database, topics, a run, and worker processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import psutil
import psycopg
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from pydantic import SecretStr

from commands.runs import open_run
from commands.topics import create_topics
from settings import PROJECT, Settings
from stack.process import Child
from stream.topics import DEFAULT_PARTITIONS, Topics
from workers.process import TEMPFAIL
from workers.stages import topic_of

if TYPE_CHECKING:
    from bench.rig import Rig

__all__ = ["Site"]

POLL_SECONDS = 0.25
#: Postgres starts a backend for each connection of a pool; more than this and a worker is not starting but stuck.
START_SECONDS = 90.0
#: A worker that is held while a backlog is written sends no heartbeats, and keeps its partitions so long.
SESSION_SECONDS = 60


class Site:
    """Default settings, but for the session's time-out and the partitions; its workers end with it. A context manager."""

    def __init__(self, rig: Rig, name: str, partitions: int = DEFAULT_PARTITIONS) -> None:
        self.rig = rig
        endpoints = rig.stack.endpoints
        self.settings = Settings(
            kafka_bootstrap_servers=endpoints["kafka"],
            postgres_url=SecretStr(rig.database(name)),
            triton_url=endpoints["triton"],
            topic_prefix=f"{name}.",
            partitions=partitions,
            session_timeout_seconds=SESSION_SECONDS,
        )
        self.name = name
        self.topics = Topics(self.settings.topic_prefix)
        self.workers: dict[str, Child] = {}  # by stage; of several, the second is named "transcriber2"
        #: Workers that asked to be started again: of several that join at once, one may be fenced by another's late claim.
        self.restarts = 0
        self._starts: dict[str, Callable[[], None]] = {}
        self._several = False
        create_topics(self.settings)
        self.run_id = open_run(self.settings, make_current=True)
        with ExitStack() as resources:
            url = self.settings.postgres_url.get_secret_value()
            self._connection = resources.enter_context(psycopg.connect(url, autocommit=True))
            self._consumer = KafkaConsumer(bootstrap_servers=endpoints["kafka"], enable_auto_commit=False)
            resources.callback(self._consumer.close)
            self._admin = KafkaAdminClient(bootstrap_servers=endpoints["kafka"])
            resources.callback(self._admin.close)
            self._resources = resources.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers.values():
            worker.stop()
        self._resources.close()

    # -- workers -----------------------------------------------------------------------------------------------

    def start(
        self, stage: str, *, instances: int = 1, module: str = "workers", env: Mapping[str, str] | None = None
    ) -> None:
        """Start a stage's workers and wait until they share its partitions. `module` is what `python -m` runs."""
        using = self.settings
        self._several = instances > 1
        for number in range(1, instances + 1):
            name = stage if number == 1 else f"{stage}{number}"
            worker = self.workers[name] = Child(f"{self.name}-{name}", home=self.rig.stack.home)
            self._starts[name] = partial(
                worker.start,
                [sys.executable, "-m", module, stage],
                env={
                    **{key: value for key, value in os.environ.items() if not key.startswith("EARFUL_")},
                    "PYTHONPATH": str(PROJECT),
                    "EARFUL_KAFKA_BOOTSTRAP_SERVERS": using.kafka_bootstrap_servers,
                    "EARFUL_POSTGRES_URL": using.postgres_url.get_secret_value(),
                    "EARFUL_TRITON_URL": using.triton_url,
                    "EARFUL_TOPIC_PREFIX": using.topic_prefix,
                    "EARFUL_PARTITIONS": str(using.partitions),
                    "EARFUL_SESSION_TIMEOUT_SECONDS": str(using.session_timeout_seconds),
                    **(env or {}),
                },
            )
            self._starts[name]()
        self.wait_shared(stage, instances)

    def wait_shared(self, stage: str, instances: int) -> None:
        """Until so many workers have the stage's partitions between them."""
        self.wait(lambda: self._owners(stage) == instances, START_SECONDS)

    def _owners(self, stage: str) -> int:
        """Workers of the stage that have a partition; 0 before all partitions are given out."""
        runs = self.rows("SELECT run_id FROM ingest.ledger WHERE stage = %s", stage)
        if len(runs) < self.settings.partitions:
            return 0
        name = f"{self.settings.topic_prefix}earful.{stage}.{runs[0][0]}"
        group = self._admin.describe_groups([name])[name]
        if group["group_state"] != "Stable":
            return 0
        return sum(bool(one["member_assignment"]["assigned_partitions"]) for one in group["members"])

    def stop(self, stage: str) -> None:
        self.workers.pop(stage).stop()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The workers stand still meanwhile, so that a backlog is whole when they begin with it."""
        pids = [worker.pid for worker in self.workers.values()]
        workers = [psutil.Process(pid) for pid in pids if pid is not None]
        for worker in workers:
            worker.suspend()
        try:
            yield
        finally:
            for worker in workers:
                worker.resume()

    # -- what is there and what is done --------------------------------------------------------------------------

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, *parameters: object) -> Any:
        """The first column of the only row."""
        return self.rows(sql, *parameters)[0][0]

    def done(self, stage: str) -> int:
        """Records of the stage that have their verdict."""
        return int(self.one("SELECT coalesce(sum(next_offset), 0) FROM ingest.ledger WHERE stage = %s", stage))

    def topic(self, stage: str) -> str:
        return topic_of(stage, self.topics)

    def ends(self, stage: str) -> dict[int, int]:
        """The next offset of each partition of the topic that the stage reads."""
        places = [TopicPartition(self.topic(stage), number) for number in range(self.settings.partitions)]
        return {place.partition: end for place, end in self._consumer.end_offsets(places).items()}

    def behind(self, stage: str) -> int:
        """Records in Kafka that the stage has not done yet."""
        return sum(self.ends(stage).values()) - self.done(stage)

    def level(self, *stages: str) -> bool:
        """Whether nothing is left to do for these stages; named in the order of the data's way, so nothing slips by."""
        outbox = "SELECT count(*) FROM ingest.outbox"
        return all(self.one(outbox) == 0 and self.behind(stage) == 0 for stage in stages)

    def wait(self, holds: Callable[[], bool], seconds: float) -> None:
        """Until it holds. Raises TimeoutError after `seconds`, RuntimeError when a worker ends.

        Of several a stage, one that asks for it is started again, as a supervisor would.
        """
        deadline = time.monotonic() + seconds
        while not holds():
            for stage, worker in self.workers.items():
                if worker.returncode == TEMPFAIL and self._several:
                    self.restarts += 1
                    self._starts[stage]()
                elif worker.returncode is not None:
                    raise RuntimeError(f"{stage} ended with {worker.returncode}:\n{tail(worker.log)}")
            if time.monotonic() > deadline:
                logs = "\n".join(f"== {stage}\n{tail(worker.log)}" for stage, worker in self.workers.items())
                raise TimeoutError(f"not done after {seconds:.0f} s\n{logs}")
            time.sleep(POLL_SECONDS)


def tail(log: Path, lines: int = 5) -> str:
    text: Sequence[str] = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(line[:1000] for line in text[-lines:])
