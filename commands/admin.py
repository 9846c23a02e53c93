"""Commands for one's own servers: workers, topics, migrations, runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Annotated
from uuid import UUID

import typer
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError
from sqlalchemy.exc import DBAPIError, IntegrityError

from commands.context import UNAVAILABLE, console, fail, in_transaction, print_json, settings
from errors import EarfulError
from settings import Settings
from store import migrate as migrations
from store import runs as store_runs
from store.schema import SchemaMismatch
from stream.topics import Topics
from workers import kafka
from workers.log import configure
from workers.process import STAGES, run_worker
from workers.run import describe

__all__ = ["create_topics", "migrate", "open_run", "runs", "topics", "worker"]

topics = typer.Typer(
    no_args_is_help=True, help="Kafka's topics: create them, or check that they are as they should be."
)
runs = typer.Typer(no_args_is_help=True, help="Runs: what results are made with, and which run analysts see.")


def worker(
    stage: Annotated[str, typer.Argument(help=f"{', '.join(STAGES)}, or all (a child process each)")],
) -> None:
    """Run a stage until SIGTERM.

    Example: earful worker transcriber
    """
    using = settings()
    configure(using.log_level)
    if stage == "all":
        raise typer.Exit(run_all())
    if stage not in STAGES:
        fail(f"no stage {stage!r}: one of {', '.join(STAGES)}, all", 2)
    raise typer.Exit(run_worker(stage, using))


def run_all() -> int:
    """One child a stage; the first that ends ends all, so that the supervisor above sees it."""
    children = [subprocess.Popen([sys.executable, "-m", "workers", stage]) for stage in STAGES]
    try:
        while all(child.poll() is None for child in children):
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    finally:
        for child in children:
            child.terminate()
        codes = [child.wait() for child in children]
    return max((abs(code) for code in codes), default=0)


@topics.command("create")
def topics_create() -> None:
    """Create every topic that does not exist yet.

    Example: EARFUL_TOPIC_PREFIX=acme. earful topics create
    """
    made = create_topics(settings())
    console.print(f"created {len(made)} topics" + (f": {', '.join(made)}" if made else "; all were there"))


def create_topics(using: Settings) -> list[str]:
    made: list[str] = []
    try:
        client = kafka.admin(using)
        try:
            for spec in Topics(using.topic_prefix).specs(using.partitions):
                topic = NewTopic(spec.name, spec.partitions, using.replication_factor, topic_configs=dict(spec.config))
                try:
                    client.create_topics([topic])
                    made.append(spec.name)
                except TopicAlreadyExistsError:
                    continue
        finally:
            client.close()
    except KafkaError as err:
        fail(f"Kafka does not answer at {using.kafka_bootstrap_servers} ({type(err).__name__})", UNAVAILABLE)
    return made


@topics.command("check")
def topics_check(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Check that every topic exists; exit 1 and name what is missing otherwise.

    Example: earful topics check --json
    """
    using = settings()
    wanted = [spec.name for spec in Topics(using.topic_prefix).specs(using.partitions)]
    try:
        client = kafka.admin(using)
        try:
            there = {
                entry["name"]: len(entry["partitions"]) for entry in client.describe_topics() if not entry["error_code"]
            }
        finally:
            client.close()
    except KafkaError as err:
        fail(f"Kafka does not answer at {using.kafka_bootstrap_servers} ({type(err).__name__})", UNAVAILABLE)
    missing = [name for name in wanted if name not in there]
    if as_json:
        print_json({"topics": {name: there.get(name) for name in wanted}, "missing": missing})
    if missing:
        fail(f"missing: {', '.join(missing)}; `earful topics create` makes them")
    if not as_json:
        console.print(f"all {len(wanted)} topics are there")


def migrate() -> None:
    """Bring Postgres to this version's schema and add the coming months' partitions.

    Example: EARFUL_POSTGRES_URL=postgresql://earful@db/earful earful migrate
    """
    try:
        revision = migrations.upgrade(settings().postgres_url.get_secret_value())
    except SchemaMismatch as err:
        fail(str(err))
    except DBAPIError as err:
        fail(f"Postgres refuses: {err.orig}", UNAVAILABLE)
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
def runs_list(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
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
