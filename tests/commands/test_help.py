"""Every command explains itself, with an example that it would accept."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version

import click
import pytest
import typer

from cli import app
from tests.commands.runner import earful

Path = tuple[str, ...]


def commands(group: click.Command, path: Path = ()) -> Iterator[tuple[Path, click.Command]]:
    """Every command and every group of commands, with the words that call it."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


EVERY = dict(commands(typer.main.get_command(app)))
#: Those that do something.
ALL = {path: command for path, command in EVERY.items() if not hasattr(command, "commands")}


def test_the_commands_of_the_contract_are_there() -> None:
    wanted = {
        "up", "down", "status", "logs", "demo", "report", "sql", "transcribe", "worker", "migrate",
        "send call", "send reviews", "explain call", "explain review", "eval asr",
        "deadletters list", "deadletters show", "deadletters replay",
        "topics create", "topics check", "runs open", "runs list", "runs use",
    }  # fmt: skip
    assert wanted <= {" ".join(path) for path in ALL}


@pytest.mark.parametrize("path", EVERY, ids=lambda path: " ".join(("earful", *path)))
def test_help_has_an_example(path: Path) -> None:
    """Of a group, it is a call of one of its commands."""
    shown = earful(*path, "--help")
    assert shown.code == 0
    assert "Example:" in shown.out
    [example] = re.findall(r"Example: (.+)", EVERY[path].help or "")
    calls = [shlex.split(part) for part in re.split(r"&&|\|", example)]
    mine = [words[words.index("earful") + 1 :] for words in calls if "earful" in words]
    [called] = [words for words in mine if tuple(words[: len(path)]) == path]
    [command] = [found for at, found in ALL.items() if tuple(called[: len(at)]) == at]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in called if word.startswith("-")} <= known


def test_the_version_is_the_packages() -> None:
    done = earful("--version")
    assert (done.code, done.out, done.err) == (0, f"earful {version('earful')}\n", "")


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_is_explained(path: Path) -> None:
    unexplained = [
        parameter.name
        for parameter in ALL[path].params
        if parameter.param_type_name == "option" and not getattr(parameter, "help", None)
    ]
    assert unexplained == []


def test_what_a_program_may_read_comes_as_json() -> None:
    with_json = {" ".join(path) for path, command in ALL.items() if any("--json" in one.opts for one in command.params)}
    assert with_json >= {
        "status", "report", "sql", "transcribe", "explain call", "explain review", "eval asr", "deadletters list",
        "deadletters show", "topics check", "runs list",
    }  # fmt: skip
