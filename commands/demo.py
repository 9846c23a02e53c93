"""`earful demo`: the whole way on this machine, from nothing to analytics."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, LiteralString

import typer
from psycopg import Connection
from psycopg.rows import DictRow
from rich.progress import BarColumn, Progress, TextColumn

from commands.context import console, database, errors, fail, of_local_stack, settings
from commands.local import ended_by_sigterm, running, start, stop
from commands.report import print_report
from commands.samples import Manifest, send_samples
from settings import Settings
from stream.topics import Topics

__all__ = ["demo"]

#: Analysing the samples takes about a minute on two cores; beyond this something is wrong.
PATIENCE_SECONDS = 600
POLL_SECONDS = 0.5
#: As it was called: `make demo` has no `earful` on the path.
EARFUL = sys.argv[0] if Path(sys.argv[0]).name == "earful" else "earful"


def demo() -> None:
    """Start the local stack, send the samples, wait until all is analysed, print the analytics, stop what was started.

    Example: KEEP=1 earful demo
    """
    given = settings()
    keep = os.environ.get("KEEP", "") not in ("", "0") or running(given.home)
    begun = time.monotonic()
    with ended_by_sigterm():
        using = of_local_stack(given, start(given.home))
        try:
            analyse(using)
            typer.echo(f"\nall analysed, {time.monotonic() - begun:.0f} s after the start\n")
            if keep:
                typer.echo(f"The stack keeps running. SQL: {using.postgres_url.get_secret_value()}")
                typer.echo(
                    f'Go on with: {EARFUL} sql "SELECT * FROM analytics_v1.calls", {EARFUL} explain call card-fee, '
                    f"{EARFUL} down"
                )
            else:
                typer.echo(
                    f"Go on with: make demo KEEP=1 (leaves the stack running), or {EARFUL} up; the data is kept.\n"
                    f"{EARFUL} status --json has the URL for SQL then."
                )
        finally:
            if not keep:
                with errors.status("stopping the local stack"):
                    stop(given.home)


def analyse(using: Settings) -> None:
    """Send the samples where they are not there yet, wait for their results and print them."""
    manifest, topics = Manifest(), Topics(using.topic_prefix)
    with database(using.postgres_url.get_secret_value()) as connection:
        connection.autocommit = True
        if missing(connection, manifest, topics) == 0:
            console.print("the samples are already there; nothing is sent twice")
        else:
            with errors.status("sending the samples"):
                send_samples(manifest, using)
            wait(connection, manifest, topics)
        print_report(connection)


def wait(connection: Connection[DictRow], manifest: Manifest, topics: Topics) -> None:
    """Until every call and review is in its final state and every poison record its dead letter."""
    total = missing(connection, manifest, topics)
    deadline = time.monotonic() + PATIENCE_SECONDS
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task("analysing", total=total)
        while (left := missing(connection, manifest, topics)) > 0:
            if time.monotonic() > deadline:
                fail(
                    f"{left} of {total} samples are not analysed after {PATIENCE_SECONDS} s; see `earful status` and `earful logs`"
                )
            progress.update(task, completed=total - left)
            time.sleep(POLL_SECONDS)


def missing(connection: Connection[DictRow], manifest: Manifest, topics: Topics) -> int:
    """How many samples are not in their expected state yet."""
    calls = pairs(connection, "SELECT call_id AS id, state AS now FROM analytics_v1.calls")
    reviews = pairs(connection, "SELECT review_id AS id, NOT deleted AS now FROM ingest.review_heads")
    buried = {
        (row["topic"], row["reason"])
        for row in connection.execute("SELECT DISTINCT topic, reason FROM analytics_v1.dead_letters")
    }
    left: int = (
        sum(calls.get(call["call_id"]) != call["expect"]["state"] for call in manifest.calls)
        + sum(reviews.get(review_id) != there for review_id, there in manifest.review_states.items())
        + len({(getattr(topics, topic), reason) for topic, reason in manifest.poison_reasons()} - buried)
    )
    return left


def pairs(connection: Connection[DictRow], query: LiteralString) -> dict[str, Any]:
    return {row["id"]: row["now"] for row in connection.execute(query)}
