"""Kafka's jars: named and checksummed in jgo.lock.toml, fetched by jgo, verified before every start.

`python -m stack.jars` fetches what is missing; `python -m stack.jars --lock` resolves jgo.toml anew.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from jgo.env import EnvironmentBuilder, EnvironmentSpec, LockFile
from jgo.maven import MavenContext

__all__ = ["classpath"]

_HERE = Path(__file__).parent
_SPEC = _HERE / "jgo.toml"
_LOCK = _HERE / "jgo.lock.toml"


def classpath() -> list[Path]:
    """The jars of the broker, fetched into the usual Maven cache where they are missing.

    Each is compared with its locked sha256 every time: 43 MB take 0.1 s, and the cache is shared with
    other programs. Raises RuntimeError for a jar that differs or cannot be had.
    """
    maven = MavenContext(timeout=60)
    jars = []
    for dependency in LockFile.load(_LOCK).dependencies:
        component = maven.project(dependency.groupId, dependency.artifactId).at_version(dependency.version)
        jar = component.artifact(dependency.classifier or "", dependency.packaging).resolve()
        with jar.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != dependency.sha256:
            raise RuntimeError(f"{jar} is not the jar that {_LOCK.name} names: delete it, so that it is fetched again")
        jars.append(jar)
    return jars


def _lock() -> None:
    lock = EnvironmentBuilder(context=MavenContext(timeout=60)).resolve_lockfile(EnvironmentSpec.load(_SPEC))
    lock.save(_LOCK)


if __name__ == "__main__":
    if "--lock" in sys.argv[1:]:
        _lock()
    classpath()
