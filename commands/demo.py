"""`earful demo`: the whole way on this machine, from nothing to analytics."""

from __future__ import annotations

import os
import time
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow
from rich.progress import BarColumn, Progress, TextColumn

from commands.context import console, database, errors, fail, settings
from commands.local import start, stop
from commands.report import print_report
from commands.samples import Manifest, send_samples
from stream.topics import Topics

__all__ = ["demo"]

#: Analysing the samples takes about a minute on two cores; beyond this something is wrong.
PATIENCE_SECONDS = 600
POLL_SECONDS = 0.5


def demo() -> None:
    """Start the stack, send the samples, wait until all is analysed, print the analytics, stop again.

    Example: KEEP=1 earful demo
    """
    home = settings().home
    keep = os.environ.get("KEEP", "") not in ("", "0")
    begun = time.monotonic()
    start(home)
    try:
        using = settings()
        manifest = Manifest()
        with database(using.postgres_url.get_secret_value()) as connection:
            connection.autocommit = True
            topics = Topics(using.topic_prefix)
            if missing(connection, manifest, topics) == 0:
                console.print("the samples are already there; nothing is sent twice")
            else:
                with errors.status("sending the samples"):
                    send_samples(manifest, using, lambda name: None)
                wait(connection, manifest, topics)
            print_report(connection)
        console.print(f"\nall analysed, {time.monotonic() - begun:.0f} s after the start\n", highlight=False)
        if keep:
            console.print(f"The stack keeps running. SQL: {using.postgres_url.get_secret_value()}", soft_wrap=True)
            console.print(
                'Go on with: earful sql "SELECT * FROM analytics_v1.calls", earful explain call card-fee, earful down'
            )
        else:
            console.print("Go on with: make demo KEEP=1 (leaves the stack running), or earful up; the data is kept.")
    finally:
        if not keep:
            stop(home)


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
        + sum(reviews.get(review_id) != there for review_id, there in manifest.review_states().items())
        + len({(getattr(topics, topic), reason) for topic, reason in manifest.poison_reasons()} - buried)
    )
    return left


def pairs(connection: Connection[DictRow], query: LiteralString) -> dict[str, Any]:
    return {row["id"]: row["now"] for row in connection.execute(query)}
