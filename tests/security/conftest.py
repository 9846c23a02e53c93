"""One's own servers, started once for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.home import clean, take_lock
from stack.process import end, marked
from tests.security.servers import OwnServers, own_servers

_PREFIX = "earful-own-"


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServers]:
    """Not below pytest's own folder: PostgreSQL's user may not enter it. What a killed session left is ended first."""
    for stale in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/lock"):
        if clean(stale.parent):
            shutil.rmtree(stale.parent, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix=_PREFIX))
    home.chmod(0o755)  # it holds the authority's certificate, which everybody reads
    lock = take_lock(home)
    try:
        with own_servers(home) as servers:
            yield servers
    finally:
        end(marked(home))
        os.close(lock)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's .env must not reach the tests."""
    monkeypatch.chdir(tmp_path)
