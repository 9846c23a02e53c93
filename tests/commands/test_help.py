"""Every command explains itself, with an example that it would accept."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
import typer

from cli import app
from tests.commands.runner import earful

Path = tuple[str, ...]


def commands(group: click.Command, path: Path = ()) -> Iterator[tuple[Path, click.Command]]:
    """Every command that does something, with the words that call it."""
    inner = getattr(group, "commands", None)
    if inner is None:
        yield path, group
        return
    for name, command in inner.items():
        yield from commands(command, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))


def test_the_commands_of_the_contract_are_there() -> None:
    wanted = {
        "up", "down", "status", "logs", "demo", "report", "sql", "transcribe", "worker", "migrate",
        "send call", "send reviews", "explain call", "explain review", "eval asr",
        "deadletters list", "deadletters show", "deadletters replay",
        "topics create", "topics check", "runs open", "runs list", "runs use",
    }  # fmt: skip
    assert wanted <= {" ".join(path) for path in ALL}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_has_an_example(path: Path) -> None:
    command = ALL[path]
    shown = earful(*path, "--help")
    assert shown.code == 0
    assert "Example:" in shown.out
    [example] = re.findall(r"Example: (.+)", command.help or "")
    calls = [shlex.split(part) for part in re.split(r"&&|\|", example)]
    mine = [words[words.index("earful") + 1 :] for words in calls if "earful" in words]
    [arguments] = [words[len(path) :] for words in mine if tuple(words[: len(path)]) == path]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in arguments if word.startswith("-")} <= known


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
