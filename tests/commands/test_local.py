"""`earful status` and `earful logs` of a local stack, as its supervisor's files tell it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from commands import local
from settings import PROJECT
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
    assert (done.code, done.out.splitlines()[0]) == (3, f"degraded in {tmp_path}")
    [_, _, kafka, triton] = [line.split() for line in done.out.splitlines()]
    assert kafka == ["kafka", "healthy", "4711", "0", "2026-11-20", "10:15:30"]
    assert triton == ["triton", "restarting", "3", "2026-11-20", "10:15:30", "died", "(SIGSEGV)"]


def test_status_as_json_has_the_endpoints(tmp_path: Path) -> None:
    found = earful("status", "--json", env=home(tmp_path)).json()
    assert (found["state"], found["endpoints"]) == ("ready", {"kafka": "127.0.0.1:1"})
    assert found["home"] == str(tmp_path)
    assert found["units"]["kafka"]["since"] == SINCE


@pytest.mark.parametrize("state", ["restarting", "failing"])
def test_a_unit_that_is_not_healthy_makes_it_degraded_and_3(tmp_path: Path, state: str) -> None:
    done = earful("status", "--json", env=home(tmp_path, state=state))
    assert (done.code, done.json()["state"], done.json()["endpoints"]) == (3, "degraded", {"kafka": "127.0.0.1:1"})
    assert earful("status", env=home(tmp_path)).code == 0


def test_an_error_is_shown_as_it_is(tmp_path: Path) -> None:
    env = home(tmp_path, error="no file [/x/y]", state="failing")
    assert "no file [/x/y]" in earful("status", env=env).out
    found = json.loads((tmp_path / "status.json").read_text())
    (tmp_path / "status.json").write_text(json.dumps({**found, "state": "failed", "error": "no [/x/y]"}))
    assert earful("status", env=env).out.splitlines()[0] == f"failed in {tmp_path}: no [/x/y]"


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_file_counts_as_none_and_is_said(tmp_path: Path, content: str) -> None:
    env = home(tmp_path)
    (tmp_path / "endpoints.json").write_text(content)
    done = earful("status", "--json", env=env)
    assert (done.code, done.json()["endpoints"], "endpoints.json is empty or damaged" in done.sentence()) == (
        0,
        {},
        True,
    )
    for told in (content, "{}"):
        (tmp_path / "status.json").write_text(told)
        done = earful("status", env=env)
        assert (done.code, "status.json is empty or damaged" in done.out) == (3, True)


def test_a_wrong_address_is_one_sentence_without_it(tmp_path: Path) -> None:
    """Also where the environment names another server, and no obstacle to what writes the file anew."""
    env = home(tmp_path)
    local = {"kafka": "127.0.0.1:1", "postgres_url": "mysql://me:secret@db/x", "triton": "127.0.0.1:1"}
    (tmp_path / "endpoints.json").write_text(json.dumps(local))
    elsewhere = {"EARFUL_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/none"}
    for named in ({}, elsewhere):
        done = earful("status", env=env | named)
        assert (done.code, "endpoints.json is wrong (postgres_url: " in done.sentence()) == (2, True)
        assert "secret" not in done.err
    (tmp_path / "status.json").unlink()  # or this process would be stopped
    done = earful("down", env=env)
    assert (done.code, done.err, (tmp_path / "endpoints.json").exists()) == (0, "", False)


def test_up_says_that_the_settings_of_a_running_stack_stay(tmp_path: Path) -> None:
    done = earful("up", env=home(tmp_path))
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == f"already running in {tmp_path}; `earful down` first for new settings"


def test_each_stage_has_a_health_port_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [command[0] for command in local.plan().workers.values()] == [sys.executable] * 4
    monkeypatch.setenv("EARFUL_HEALTH_PORT", "9100")
    workers = local.plan().workers
    assert [command[:2] for command in workers.values()] == [
        ["env", f"EARFUL_HEALTH_PORT={9100 + n}"] for n in range(4)
    ]
    assert [command[-1] for command in workers.values()] == list(workers)


def test_logs_of_a_stack_that_never_ran_are_none_and_it_says_so(tmp_path: Path) -> None:
    done = earful("logs", env={"EARFUL_HOME": str(tmp_path)})
    assert (done.code, done.out) == (0, f"no logs in {tmp_path / 'logs'}: the stack never ran there\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "kafka.log").touch()
    assert earful("logs", env={"EARFUL_HOME": str(tmp_path)}).out == f"{tmp_path / 'logs' / 'kafka.log'}\n"


@pytest.mark.timeout(600)
def test_a_log_is_followed_past_its_rotation(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "kafka.log"
    log.parent.mkdir()
    log.write_text("one\ntwo\n")
    # What runs pytest in the background may ignore SIGINT, and what it starts would, too.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "cli", "logs", "kafka", "-n", "1", "--follow"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("EARFUL_")}
    env |= {"EARFUL_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, bufsize=0) as following:

        def line() -> bytes:
            """The next one; none where none comes in time."""
            assert following.stdout is not None
            ready, _, _ = select.select([following.stdout], [], [], 240)
            return following.stdout.readline() if ready else b""

        try:
            assert line() == b"two\n"
            with log.open("a") as more:
                more.write("three\n")
            assert line() == b"three\n"
            os.truncate(log, 0)  # as the supervisor sets it aside
            with log.open("a") as more:
                more.write("four\n")
            assert line() == b"four\n"
            following.send_signal(signal.SIGINT)
            assert following.wait(240) == 0
        finally:
            following.kill()


def test_status_has_the_lag_of_each_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = home(tmp_path)
    found = json.loads((tmp_path / "status.json").read_text())
    found["units"]["reviewer"] = found["units"]["kafka"]
    (tmp_path / "status.json").write_text(json.dumps(found))
    assert earful("status", "--json", env=env).json()["lag"] == {}
    servers = {"kafka": "127.0.0.1:1", "postgres_url": "postgresql://nobody@127.0.0.1:1/none", "triton": "127.0.0.1:1"}
    (tmp_path / "endpoints.json").write_text(json.dumps(servers))
    assert earful("status", "--json", env=env).json()["lag"] == {}  # Kafka does not answer
    asked = []
    monkeypatch.setattr(local, "lag", lambda using: asked.append(using) or {"reviewer": 1234})
    done = earful("status", env={**env, "EARFUL_KAFKA_BOOTSTRAP_SERVERS": "elsewhere:1"})
    assert (done.code, done.out.splitlines()[-1].split()[-1]) == (0, "1234")
    assert asked[0].kafka_bootstrap_servers == "127.0.0.1:1"
