"""`earful status` and `earful logs` of a local stack, as its supervisor's files tell it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil

from tests.commands.runner import earful

SINCE = "2026-11-20T10:15:30.123+00:00"


def home(folder: Path, **units: object) -> dict[str, str]:
    """The settings of a stack that is ready, with this process in its supervisor's place."""
    unit = {"state": "healthy", "pid": 4711, "restarts": 0, "since": SINCE, "error": None}
    status = {
        "state": "ready",
        "error": None,
        "supervisor": {"pid": os.getpid(), "started": psutil.Process().create_time()},
        "units": {"kafka": unit, "triton": {**unit, **units}},
    }
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "endpoints.json").write_text('{"kafka": "127.0.0.1:1"}')
    return {"EARFUL_HOME": str(folder)}


def test_status_says_since_when_and_why(tmp_path: Path) -> None:
    ill = {"state": "restarting", "pid": None, "restarts": 3, "error": "died (SIGSEGV)"}
    done = earful("status", env=home(tmp_path, **ill))
    assert done.code == 0
    [_, _, kafka, triton] = [line.split() for line in done.out.splitlines()]
    assert kafka == ["kafka", "healthy", "4711", "0", "2026-11-20", "10:15:30"]
    assert triton == ["triton", "restarting", "3", "2026-11-20", "10:15:30", "died", "(SIGSEGV)"]


def test_status_as_json_has_the_endpoints(tmp_path: Path) -> None:
    found = earful("status", "--json", env=home(tmp_path)).json()
    assert (found["state"], found["endpoints"]) == ("ready", {"kafka": "127.0.0.1:1"})
    assert found["units"]["kafka"]["since"] == SINCE


def test_logs_of_a_stack_that_never_ran_are_none_and_it_says_so(tmp_path: Path) -> None:
    done = earful("logs", env={"EARFUL_HOME": str(tmp_path)})
    assert (done.code, done.out) == (0, "no logs: the stack never ran here\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "kafka.log").touch()
    assert earful("logs", env={"EARFUL_HOME": str(tmp_path)}).out == f"{tmp_path / 'logs' / 'kafka.log'}\n"
