"""Commands for one's own servers: workers, topics, migrations, runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import BrokerResponseError, KafkaError, TopicAlreadyExistsError
from sqlalchemy.exc import DBAPIError, IntegrityError

from commands.all_workers import run_all
from commands.context import (
    FAILED,
    UNAVAILABLE,
    WRONG,
    Failed,
    console,
    errors,
    explained,
    fail,
    in_transaction,
    print_json,
    require_kafka,
    settings,
    tell_error,
)
from commands.topic_check import look, sentences
from errors import EarfulError
from settings import Settings
from store import ledger
from store import migrate as migrations
from store import runs as store_runs
from stream import padding
from stream.topics import Topics
from workers import kafka
from workers.log import configure
from workers.process import run_worker
from workers.run import describe
from workers.stages import STAGES

__all__ = ["create_topics", "migrate", "open_run", "runs", "topics", "worker"]

#: Records of `topics pad` that wait for Kafka at once: a partition may lack millions, and each is an object here.
PAD_PORTION = 10_000

topics = typer.Typer(
    no_args_is_help=True,
    help="Kafka's topics: create them, or check that they are as they should be.\n\nExample: earful topics check",
)
runs = typer.Typer(
    no_args_is_help=True,
    help="Runs: what results are made with, and which run analysts see.\n\nExample: earful runs list",
)


def worker(
    stage: Annotated[str, typer.Argument(help=f"{', '.join(STAGES)}, or all (a child process each)")],
) -> None:
    """Run a stage until SIGTERM.

    Example: earful worker transcriber
    """
    using = settings()
    configure(using.log_level)
    if stage == "all":
        raise typer.Exit(run_all(using))
    if stage not in STAGES:
        fail(f"no stage {stage!r}: one of {', '.join(STAGES)}, all", WRONG)
    raise typer.Exit(run_worker(stage, using))


@topics.command("create")
def topics_create() -> None:
    """Create every topic that does not exist yet.

    Example: EARFUL_TOPIC_PREFIX=acme. earful topics create
    """
    made = create_topics(settings())
    console.print(f"created {len(made)} topics" + (f": {', '.join(made)}" if made else "; all were there"))


def create_topics(using: Settings) -> list[str]:
    """Names of those that were missing."""
    require_kafka(using)
    made: list[str] = []
    with admin(using) as client:
        for spec in Topics(using.topic_prefix).specs(using.partitions):
            topic = NewTopic(spec.name, spec.partitions, using.replication_factor, topic_configs=dict(spec.config))
            try:
                client.create_topics([topic])
                made.append(spec.name)
            except TopicAlreadyExistsError:
                continue
    return made


@contextmanager
def admin(using: Settings) -> Iterator[KafkaAdminClient]:
    """Kafka's admin client; what Kafka refuses ends the command with one sentence."""
    try:
        client = kafka.admin(using)
        try:
            yield client
        finally:
            client.close()
    except BrokerResponseError as err:
        fail(f"Kafka refuses: {type(err).__name__.removesuffix('Error')}: {err.description or err}")
    except KafkaError as err:
        fail(f"Kafka does not answer at {using.kafka_bootstrap_servers} ({type(err).__name__})", UNAVAILABLE)


@topics.command("pad")
def topics_pad() -> None:
    """Fill partitions that Kafka lost records of up to where Earful is done; see docs/operations.md before.

    Example: earful topics pad
    """
    padded = pad(settings())
    for place, count in padded.items():
        console.print(f"{place}: {count} empty records")
    if not padded:
        console.print("no partition ends before its watermark")


def pad(using: Settings) -> dict[str, int]:
    """How many empty records each partition got, so that no offset that is done is given to another record."""
    names = list(Topics(using.topic_prefix).consumed)
    require_kafka(using, *names)
    ids = asyncio.run(kafka.topic_ids(using, names))
    rows = in_transaction(using, ledger.rows)
    wanted: dict[TopicPartition, int] = {}
    for key, next_offset in rows:
        place = TopicPartition(key.topic, key.partition)
        if ids.get(key.topic) == key.topic_id:
            wanted[place] = max(next_offset, wanted.get(place, 0))
    padded: dict[str, int] = {}
    with admin(using):  # its errors are these, too
        consumer = KafkaConsumer(**kafka.aio_options(using))
        producer = KafkaProducer(**kafka.aio_options(using), acks="all", enable_idempotence=True)
        try:
            ends = consumer.end_offsets(list(wanted))
            for place, watermark in sorted(wanted.items()):
                missing = max(0, watermark - ends[place])
                for first in range(0, missing, PAD_PORTION):
                    one = padding.pad(place.topic)
                    sent = [
                        producer.send(place.topic, key=one.key, value=one.value, partition=place.partition)
                        for _ in range(min(PAD_PORTION, missing - first))
                    ]
                    for answer in sent:
                        answer.get(timeout=30)
                if missing:
                    padded[f"{place.topic}/{place.partition}"] = missing
        finally:
            producer.close()
            consumer.close()
    return padded


@topics.command("check")
def topics_check(as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False) -> None:
    """Check that every topic is there, with the partitions, copies and settings that it should have; exit 1 otherwise.

    Example: earful topics check --json
    """
    using = settings()
    specs = Topics(using.topic_prefix).specs(using.partitions)
    require_kafka(using)
    with admin(using) as client:
        found = look(client, specs, using.replication_factor)
    if as_json:
        print_json(asdict(found))
    if found.unread:
        errors.print(
            f"Kafka does not tell this login the settings of {len(found.unread)} topics (it needs DescribeConfigs),"
            " so they were not compared",
            highlight=False,
            soft_wrap=True,
        )
    wrong = sentences(found, using)
    for sentence in wrong:
        tell_error(sentence)
    if wrong:
        raise Failed(FAILED)
    if not as_json:
        console.print(f"all {len(specs)} topics are there")


def migrate() -> None:
    """Bring Postgres to this version's schema and add the coming months' partitions.

    Example: EARFUL_POSTGRES_URL=postgresql://earful@db/earful earful migrate
    """
    try:
        revision = migrations.upgrade(settings().postgres_url.get_secret_value())
    except EarfulError as err:  # SchemaMismatch, MonthsMissing
        fail(str(err))
    except DBAPIError as err:
        fail(*explained(err.orig))
    console.print(f"schema {revision}")


@runs.command("open")
def runs_open(
    keep_current: Annotated[bool, typer.Option(help="Do not show analysts the new run yet")] = False,
) -> None:
    """Open a run for the models that Triton serves now, and show it to analysts.

    Example: earful runs open --keep-current
    """
    console.print(str(open_run(settings(), make_current=not keep_current)))


def open_run(using: Settings, *, make_current: bool) -> UUID:
    try:
        spec = asyncio.run(describe(using))
    except EarfulError as err:
        fail(str(err), UNAVAILABLE)
    return in_transaction(using, lambda connection: store_runs.open_run(connection, spec, make_current)).run_id


@runs.command("list")
def runs_list(as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False) -> None:
    """All runs, the oldest first; a star marks the one that analysts see.

    Example: earful runs list --json
    """
    using = settings()
    found = in_transaction(using, store_runs.list_runs)
    current = in_transaction(using, store_runs.current)
    if as_json:
        print_json([{"run_id": run.run_id, "current": run.run_id == current, "spec": run.spec} for run in found])
        return
    for run in found:
        console.print(f"{'*' if run.run_id == current else ' '} {run.run_id} {dict(run.spec)}", soft_wrap=True)


@runs.command("use")
def runs_use(run_id: UUID) -> None:
    """Make the views show this run; back again is the same command.

    Example: earful runs use 6dea5496-acbc-563c-88cd-5865628f7d69
    """
    try:
        in_transaction(settings(), lambda connection: store_runs.use(connection, run_id))
    except IntegrityError:
        fail(f"no run {run_id}: `earful runs list` shows them")
