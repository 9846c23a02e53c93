"""`earful worker`: a stage, or all of them."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.all_workers import run_all
from commands.context import WRONG, fail, settings
from workers.log import configure
from workers.process import run_worker
from workers.stages import STAGES

__all__ = ["worker"]


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
