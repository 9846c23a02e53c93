"""How a supervisor is started: with our code, whatever lies in the folder of the call."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack import control


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
