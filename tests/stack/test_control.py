"""How a supervisor is started: with our code, whatever lies in the folder of the call, and with ports of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack import control
from stack.home import read_json
from stack.ports import Ports


def test_modules_in_the_folder_of_the_call_do_not_stand_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("psutil", "stack", "errors"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')")
    (tmp_path / "logs").mkdir()
    control._spawn(tmp_path).wait(60)
    said = (tmp_path / "logs" / "supervisor.log").read_text()
    assert ("not ours" in said, "plan.json" in said) == (False, True), said


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kafka": null, "postgres": "5432", "triton": 70000}'])
def test_damaged_ports_are_chosen_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "ports.json").write_text(content)
    ports = Ports(tmp_path)
    ports.choose("kafka", "postgres", "triton")
    assert read_json(tmp_path / "ports.json") == {name: ports[name] for name in ("kafka", "postgres", "triton")}
