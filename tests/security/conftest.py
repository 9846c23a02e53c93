"""One's own servers, started once for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.process import end, marked
from tests.homes import temporary_home
from tests.security.servers import OwnServers, own_servers


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServers]:
    with temporary_home() as home:
        home.chmod(0o755)  # it holds the authority's certificate, which everybody reads
        try:
            with own_servers(home) as servers:
                yield servers
        finally:
            end(marked(home))


@pytest.fixture(autouse=True)
def _no_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's .env must not reach the tests."""
    monkeypatch.chdir(tmp_path)
