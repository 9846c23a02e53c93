"""`earful runs`: what results are made with, and which run analysts see."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer
from rich.markup import escape
from sqlalchemy.exc import IntegrityError

from commands.context import UNAVAILABLE, AsJson, console, fail, in_transaction, print_json, settings
from errors import EarfulError
from report.render import clean
from settings import Settings
from store import runs as store_runs
from workers.run import describe

__all__ = ["open_run", "runs"]

runs = typer.Typer(
    no_args_is_help=True,
    help="Runs: what results are made with, and which run analysts see.\n\nExample: earful runs list",
)


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
def runs_list(as_json: AsJson = False) -> None:
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
        line = f"{'*' if run.run_id == current else ' '} {run.run_id} {dict(run.spec)}"
        console.print(escape(clean(line)), soft_wrap=True)


@runs.command("use")
def runs_use(run_id: UUID) -> None:
    """Make the views show this run; back again is the same command.

    Example: earful runs use 6dea5496-acbc-563c-88cd-5865628f7d69
    """
    try:
        in_transaction(settings(), lambda connection: store_runs.use(connection, run_id))
    except IntegrityError:
        fail(f"no run {run_id}: `earful runs list` shows them")
