"""The local stack: up, down, status, logs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from commands.context import (
    FAILED,
    LOCAL,
    UNAVAILABLE,
    WRONG,
    Failed,
    errors,
    fail,
    of_environment,
    of_local_stack,
    print_json,
    print_table,
    settings,
)
from commands.lag import lag
from errors import EarfulError
from settings import PROJECT, Settings
from stack import control
from stack.plan import Plan
from stack.process import StackError
from workers.stages import STAGES

__all__ = ["down", "ended_by_sigterm", "logs", "running", "start", "status", "stop", "up"]

#: What the supervisor fills in for each worker and preparing command.
ENV = {
    "EARFUL_KAFKA_BOOTSTRAP_SERVERS": "{kafka}",
    "EARFUL_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "EARFUL_POSTGRES_URL": "{postgres_url}",
    "EARFUL_TRITON_URL": "{triton}",
    "EARFUL_TRITON_SSL": "false",
    # One worker a stage, each in its own group: a static member that died gets its partitions back as soon as it returns.
    "EARFUL_INSTANCE_ID": "local",
}


def plan() -> Plan:
    """Servers, then schema, topics and run, then one worker a stage. With weights for Phi-4, calls are Phi-4's."""
    using = of_environment()
    chosen = "speech_model" in using.model_fields_set
    speech = {"EARFUL_SPEECH_MODEL": "phi4"} if os.environ.get("PHI4_WEIGHTS") and not chosen else {}
    earful = [sys.executable, "-m", "cli"]
    return Plan(
        model_repositories=[str(PROJECT / "model_repo")],
        prepare=[[*earful, "migrate"], [*earful, "topics", "create"], [*earful, "runs", "open"]],
        workers={stage: worker(stage, number, using) for number, stage in enumerate(STAGES)},
        # Safe path: a settings.py in the folder of the call does not stand for ours.
        env={**ENV, **speech, "PYTHONPATH": str(PROJECT), "PYTHONSAFEPATH": "1"},
    )


def worker(stage: str, number: int, using: Settings) -> list[str]:
    """Each stage has a health port of its own, as with `worker all`: the first has the given one, the others follow."""
    port = [] if using.health_port is None else ["env", f"EARFUL_HEALTH_PORT={using.health_port + number}"]
    return [*port, sys.executable, "-m", "workers", stage]


def running(home: Path) -> bool:
    """Whether a stack runs in this home, or is being started."""
    return control.status(home)["state"] not in ("stopped", "failed", "dead")


def start(home: Path) -> dict[str, str]:
    """Start what does not run yet, with a word on what it waits for. Where it is interrupted, nothing is left running."""
    with errors.status("starting") as shown:
        try:
            return control.up(home, plan(), tick=lambda state: shown.update(f"local stack: {state}"))
        except StackError as err:
            fail(str(err))
        except OSError as err:
            fail(f"no stack can live in {home}: {err.strerror}", WRONG)


def stop(home: Path) -> bool:
    try:
        return control.down(home)
    except StackError as err:
        fail(str(err))


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM and a terminal that is closed end the block as Ctrl-C does: what stands in its `finally` is done."""

    def end(number: int, frame: object) -> NoReturn:
        raise typer.Exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def up() -> None:
    """Start Kafka, PostgreSQL, Triton and the workers on this machine, loopback only.

    Example: earful up && earful send call call.mp3 --roles customer,agent
    """
    home = of_environment().home
    started = time.monotonic()
    ran = control.status(home)["state"] == "ready"
    with ended_by_sigterm():
        found = start(home)
    if ran:
        typer.echo(f"already running in {home}; `earful down` first for new settings")
    else:
        typer.echo(f"up after {time.monotonic() - started:.0f} s; data and logs in {home}")
    for name, value in found.items():
        typer.echo(f"  {name:<13}{value}")


def down() -> None:
    """Stop the local stack; data stays in its folder.

    Example: earful down
    """
    home = of_environment().home
    typer.echo(f"stopped; the data stays in {home}" if stop(home) else f"nothing was running in {home}")


def status(as_json: Annotated[bool, typer.Option("--json", help="With the endpoints")] = False) -> None:
    """What runs, since when, how often it was restarted, and each stage's lag. Exit 3 unless all of it is healthy.

    Lag is how many records a stage has yet to read; it is left out where Kafka or Postgres does not answer.

    Example: earful status --json
    """
    using = settings()
    home = using.home
    found: dict[str, Any] = control.status(home)
    if found["state"] == "ready" and any(unit["state"] != "healthy" for unit in found["units"].values()):
        found["state"] = "degraded"
    local: dict[str, str] = {}
    if found["state"] in ("ready", "degraded"):
        with suppress(StackError):  # `settings` has told it already
            local = control.endpoints(home)
    lags = lag_of(using, local)
    if as_json:
        print_json({"home": home.resolve(), **found, "lag": lags, "endpoints": local})
    else:
        typer.echo(f"{found['state']} in {home}{': ' + found['error'] if found.get('error') else ''}")
        if found["units"]:
            rows = (cells(name, unit, lags) for name, unit in found["units"].items())
            print_table(("unit", "state", "pid", "restarts", "since (UTC)", "lag", "why"), rows)
    if found["state"] != "ready":
        raise typer.Exit(UNAVAILABLE)


def lag_of(using: Settings, local: dict[str, str]) -> dict[str, int]:
    """Empty where Kafka or Postgres does not answer."""
    if not LOCAL.keys() <= local.keys():
        return {}
    try:
        return lag(of_local_stack(using, local))
    except EarfulError:
        return {}


def cells(name: str, unit: dict[str, Any], lags: dict[str, int]) -> tuple[str, ...]:
    since = unit["since"].partition(".")[0].replace("T", " ")
    numbers = (str(unit["pid"] or ""), str(unit["restarts"]), since, str(lags.get(name, "")))
    return (name, unit["state"], *numbers, unit["error"] or "")


def logs(
    unit: Annotated[
        str | None, typer.Argument(help="kafka, postgres, triton, supervisor or a stage; default: list them")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="And what is written from now on, until Ctrl-C")
    ] = False,
) -> None:
    """The last lines of a unit's log.

    Example: earful logs transcriber -n 100 --follow
    """
    folder = of_environment().home / "logs"
    files = sorted(folder.glob("*.log"))
    if unit is None:
        for file in files:
            typer.echo(str(file))
        if not files:
            typer.echo(f"no logs in {folder}: the stack never ran there")
        return
    wanted = [file for file in files if file.stem == unit]
    if not wanted:
        known = ", ".join(file.stem for file in files) or f"the stack never ran in {folder.parent}"
        fail(f"no log of {unit!r}: {known}", WRONG)
    # -F reads on from the beginning where a log was set aside; with the pid it ends when this process does, however that does.
    more = ["-F", f"--pid={os.getpid()}"] if follow else []
    try:
        told = subprocess.run(["tail", "-n", str(lines), *more, "--", wanted[0]], check=False)
    except KeyboardInterrupt:
        return
    if told.returncode:
        raise Failed(FAILED)  # `tail` has said why
