"""Which models of the repositories a server loads, and in which Python environment.

A model's folder may say in needs.json, beside config.pbtxt, what must be there before it is served:

    {"variable": "PHI4_WEIGHTS", "environment": ".venv-torch", "start_seconds": 900, "exit_seconds": 30}

Without the environment variable the model is left out, as if it were not in the repository. Where one model needs an
environment of its own, all Python models run in it (it holds the packages of the default one too). start_seconds is how
long it may take to load, exit_seconds how long to answer what it has taken.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stack.process import START_SECONDS, StackError

__all__ = ["environment_of", "exit_seconds", "link", "served", "start_seconds"]

#: The longest request of the models that every stack serves takes five.
_EXIT_SECONDS = 8


def served(repositories: Sequence[Path], env: Mapping[str, str]) -> list[Path]:
    """The folders of the models to serve, by name. An empty variable counts as none."""
    folders = sorted((path.parent for each in repositories for path in each.glob("*/config.pbtxt")), key=_name)
    return [folder for folder in folders if (variable := _needs(folder).get("variable")) is None or env.get(variable)]


def environment_of(folders: Sequence[Path], project: Path, default: Path) -> Path:
    """The environment in which these models run. Raises StackError where it was not made."""
    for folder in folders:
        name = _needs(folder).get("environment")
        if name is not None:
            environment = project / str(name)
            if not (environment / "bin" / "python3").exists():
                raise StackError(f"triton: {folder.name} runs in {name}, which is not there: run `make {name}/.made`")
            return environment
    return default


def start_seconds(folders: Sequence[Path]) -> float:
    """How long a server may take until all of these answer."""
    return max([START_SECONDS, *(float(_needs(folder).get("start_seconds", 0)) for folder in folders)])


def exit_seconds(folders: Sequence[Path]) -> int:
    """How long a server that shall end may go on answering the requests that these have taken."""
    return max([_EXIT_SECONDS, *(int(_needs(folder).get("exit_seconds", 0)) for folder in folders)])


def link(folders: Sequence[Path], to: Path) -> Path:
    """A model repository in `to` that holds exactly these models, as links."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for folder in folders:
        (to / folder.name).symlink_to(folder, target_is_directory=True)
    return to


def _name(folder: Path) -> str:
    return folder.name


def _needs(folder: Path) -> dict[str, Any]:
    path = folder / "needs.json"
    needs: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return needs
