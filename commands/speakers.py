"""`--roles`: who speaks on each channel of a recording."""

from __future__ import annotations

from typing import Annotated, cast, get_args

import typer

from commands.context import WRONG, fail
from stream.events import Role

__all__ = ["Roles", "read_roles"]

Roles = Annotated[str | None, typer.Option("--roles", help="Who speaks on each channel, e.g. customer,agent")]


def read_roles(given: str | None) -> tuple[Role, ...]:
    """The roles named, none where the option is absent; ends the command where one is none."""
    named = tuple(one.strip() for one in given.split(",")) if given else ()
    if not set(named) <= set(get_args(Role)):
        fail(f"--roles takes {', '.join(get_args(Role))}, one for each channel", WRONG)
    return cast("tuple[Role, ...]", named)
