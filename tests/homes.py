"""Homes of test servers, in the temporary folder: PostgreSQL's user may not enter pytest's own.

Each is named after its process. What a killed session left, servers and files, goes when the next one makes a home.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil

from stack import control
from stack.process import StackError

__all__ = ["temporary_home"]

PREFIX = "earful-test-"


@contextlib.contextmanager
def temporary_home(suffix: str = "") -> Iterator[Path]:
    """A new folder, its name with this end; the servers that its user starts there, its user stops."""
    end_what_was_left()
    home = Path(tempfile.mkdtemp(suffix, f"{PREFIX}{os.getpid()}-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@cache
def end_what_was_left() -> None:
    for home in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = home.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            with contextlib.suppress(StackError):  # one that lives on without its session belongs to somebody
                control.down(home)
                shutil.rmtree(home, ignore_errors=True)
