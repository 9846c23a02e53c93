"""Which models a server loads, and where they run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stack.process import StackError
from stack.served import environment_of, exit_seconds, link, served


@pytest.fixture(name="repository")
def _repository(tmp_path: Path) -> Path:
    repository = tmp_path / "models"
    for name in ("whisper", "phi4"):
        (repository / name).mkdir(parents=True)
        (repository / name / "config.pbtxt").touch()
    (repository / "phi4" / "needs.json").write_text(json.dumps({"variable": "WEIGHTS", "environment": ".venv-big"}))
    (repository / "no-model").mkdir()
    return repository


def names(folders: list[Path]) -> list[str]:
    return [folder.name for folder in folders]


@pytest.mark.parametrize(
    ("env", "expected"), [({}, ["whisper"]), ({"WEIGHTS": ""}, ["whisper"]), ({"WEIGHTS": "x"}, ["phi4", "whisper"])]
)
def test_a_model_is_served_where_its_variable_is_set(
    repository: Path, env: dict[str, str], expected: list[str]
) -> None:
    assert names(served([repository], env)) == expected


def test_one_model_that_needs_an_environment_decides_for_all(repository: Path, tmp_path: Path) -> None:
    small = tmp_path / ".venv"
    assert environment_of(served([repository], {}), tmp_path, small) == small
    both = served([repository], {"WEIGHTS": "x"})
    with pytest.raises(StackError, match=r"phi4 runs in \.venv-big.*make \.venv-big/\.made"):
        environment_of(both, tmp_path, small)
    (tmp_path / ".venv-big" / "bin").mkdir(parents=True)
    (tmp_path / ".venv-big" / "bin" / "python3").touch()
    assert environment_of(both, tmp_path, small) == tmp_path / ".venv-big"


def test_it_may_answer_what_it_has_taken_as_long_as_its_slowest_model_needs(repository: Path) -> None:
    assert exit_seconds(served([repository], {})) == 8
    needs = {"variable": "WEIGHTS", "exit_seconds": 30}
    (repository / "phi4" / "needs.json").write_text(json.dumps(needs))
    assert exit_seconds(served([repository], {"WEIGHTS": "x"})) == 30
    assert exit_seconds(served([repository], {})) == 8


def test_the_server_is_given_exactly_those_models(repository: Path, tmp_path: Path) -> None:
    to = tmp_path / "home" / "models"
    link(served([repository], {"WEIGHTS": "x"}), to)
    assert names(sorted(path.parent for path in link(served([repository], {}), to).glob("*/config.pbtxt"))) == [
        "whisper"
    ]
