"""The command `earful`: every command of Earful, put together."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from commands import (
    aspects,
    cvib,
    deadletters,
    demo,
    evaluate,
    explain,
    local,
    migrate,
    phi4,
    report,
    runs,
    send,
    topics,
    transcribe,
    worker,
)
from commands.context import FAILED, WRONG, tell_error

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals could hold what somebody said
    help="Calls and reviews from Kafka, through Triton's models, to SQL.\n\nExample: earful demo",
)
app.command()(local.up)
app.command()(local.down)
app.command()(local.status)
app.command()(local.logs)
app.command()(demo.demo)
app.add_typer(send.send, name="send")
app.command()(report.report)
app.command()(report.sql)
app.add_typer(explain.explain, name="explain")
app.add_typer(deadletters.deadletters, name="deadletters")
app.command()(aspects.aspects)
app.add_typer(cvib.cvib, name="cvib")
app.command()(transcribe.transcribe)
app.add_typer(evaluate.evaluate, name="eval")
app.add_typer(phi4.phi4, name="phi4")
app.command()(worker.worker)
app.add_typer(topics.topics, name="topics")
app.command()(migrate.migrate)
app.add_typer(runs.runs, name="runs")


def tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"earful {version_of('earful')}")
        raise typer.Exit


@app.callback()
def earful(
    version: Annotated[
        bool, typer.Option("--version", callback=tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What stands before the command's name."""


def main() -> None:
    """The command. A file or folder that cannot be used is one sentence, wherever that shows."""
    try:
        app()
    except OSError as err:
        if err.filename is None:
            raise
        tell_error(f"{os.fspath(err.filename)!s}: {err.strerror}")
        sys.exit(FAILED)
    except UnicodeEncodeError:  # bytes that are no text reach an argument as surrogates
        tell_error("an argument is not UTF-8 text")
        sys.exit(WRONG)


if __name__ == "__main__":
    main()
