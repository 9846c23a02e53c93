"""The supervisor brings back what is killed, and leaves nothing behind, whoever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from stack import control
from stack.home import shared_memory
from stack.plan import Plan
from stack.process import MARK, StackError, marked
from stack.stack import Stack
from stack.supervisor import Supervisor, Worker
from tests.faults import ills
from tests.homes import temporary_home

ROOT = str(Path(__file__).parents[2])
MODELS = Path(__file__).parent.parent / "models"
# Has a semaphore in /dev/shm, as a worker with a child process has; its resource tracker must get to unlink it.
_WORKER = """
import multiprocessing, os, pathlib, signal, time
signal.signal(signal.SIGTERM, lambda *_: exit(0))
lock = multiprocessing.get_context("spawn").Lock()
signal.signal(signal.SIGUSR1, lambda *_: print("still here", flush=True))
pathlib.Path(os.environ["HERE"], "semaphore").write_text(lock._semlock.name)
time.sleep(600)
"""
# Needs Triton once more before it leaves.
_LAST_WORDS = """
import os, pathlib, signal, time
from tritonclient.grpc import InferenceServerClient
def leave(*_):
    live = InferenceServerClient(os.environ["TRITON"]).is_server_live(client_timeout=3)
    pathlib.Path(os.environ["HERE"], "last-words").write_text(str(live))
    exit(0)
signal.signal(signal.SIGTERM, leave)
pathlib.Path(os.environ["HERE"], "listens").touch()
time.sleep(600)
"""
_PREPARE = "import os, pathlib; pathlib.Path(os.environ['HERE'], 'prepared').write_text(os.environ['BROKER'])"

pytestmark = pytest.mark.timeout(180)


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Waits for a condition, and fails the test if it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


def states(home: Path) -> dict[str, str]:
    return {name: unit["state"] for name, unit in control.status(home)["units"].items()}


def semaphore(home: Path) -> Path:
    return Path("/dev/shm", "sem." + (home / "semaphore").read_text().lstrip("/"))


def plan(home: Path, **changes: object) -> Plan:
    fields: dict[str, object] = {
        "model_repositories": [str(MODELS)],
        "prepare": [[sys.executable, "-c", _PREPARE]],
        "workers": {"worker": [sys.executable, "-c", _WORKER]},
        "env": {"BROKER": "{kafka}", "HERE": str(home)},
    }
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(name="home")
def _home() -> Iterator[Path]:
    with temporary_home() as home:
        yield home
        control.down(home)


@pytest.fixture(name="running", scope="module")
def _running() -> Iterator[Path]:
    """A supervised stack for all tests that leave it running."""
    with temporary_home() as home:
        control.up(home, plan(home))
        yield home
        control.down(home)


def test_up_prepares_then_starts_workers_with_the_endpoints(running: Path) -> None:
    assert (running / "prepared").read_text() == control.endpoints(running)["kafka"]
    assert states(running) == dict.fromkeys(["postgres", "kafka", "triton", "worker"], "healthy")


def test_up_again_changes_nothing(running: Path) -> None:
    before = control.status(running)["supervisor"]
    assert control.up(running, plan(running)) == control.endpoints(running)
    assert control.status(running)["supervisor"] == before


def test_a_log_over_20_mb_is_set_aside_while_its_unit_writes_on(running: Path) -> None:
    log = running / "logs" / "worker.log"
    aside = log.with_suffix(".log.1")
    before = control.status(running)["units"]["worker"]
    os.truncate(log, (20 << 20) + 1)
    until(lambda: aside.exists() and log.stat().st_size == 0)
    assert aside.stat().st_size == (20 << 20) + 1
    os.kill(before["pid"], signal.SIGUSR1)
    until(lambda: log.read_text() == "still here\n")
    assert control.status(running)["units"]["worker"] == before


@pytest.mark.parametrize("name", ["postgres", "kafka", "triton", "worker"])
def test_what_is_killed_comes_back(running: Path, name: str) -> None:
    until(lambda: set(states(running).values()) == {"healthy"})
    before = control.status(running)["units"][name]
    endpoints = control.endpoints(running)
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: control.status(running)["units"][name]["restarts"] > before["restarts"])
    until(lambda: states(running)[name] == "healthy")
    assert control.status(running)["units"][name]["pid"] != before["pid"]
    assert control.endpoints(running) == endpoints


def test_a_dead_python_stub_is_noticed(running: Path) -> None:
    """Triton says ready while a stub is dead; only the canary sees it."""
    until(lambda: set(states(running).values()) == {"healthy"})
    before = control.status(running)["units"]["triton"]
    stubs = [
        process
        for process in psutil.Process(before["pid"]).children(recursive=True)
        if "triton_python_backend_stub" in process.name() or "stub" in " ".join(process.cmdline())
    ]
    assert len(stubs) == 3
    stubs[0].kill()
    until(lambda: control.status(running)["units"]["triton"]["restarts"] > before["restarts"])
    until(lambda: states(running)["triton"] == "healthy")


def test_a_stack_lives_and_dies_without_a_trace(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are told to stop while the servers are there, and no server is killed because its health check takes long."""
    monkeypatch.setenv("FAULTS", str(home / ills.FOLDER))
    workers = {name: [sys.executable, "-c", code] for name, code in (("one", _WORKER), ("other", _LAST_WORDS))}
    control.up(home, plan(home, workers=workers, env={"BROKER": "{kafka}", "TRITON": "{triton}", "HERE": str(home)}))
    assert len({process.pid for process in marked(home)}) > 5
    assert shared_memory(home)
    until(lambda: (home / "semaphore").exists() and semaphore(home).exists() and (home / "listens").exists())
    for model in ("aspects", "cvib", "whisper"):  # asked in this order, one after the other: 7.5 s
        ills.fall_ill(home, model, "slow", seconds=2.5)
    with ills.noting(home, "aspects"):
        until(lambda: ills.asked(home, "aspects").total() > 0)
        assert control.down(home) is True
    assert (home / "last-words").read_text() == "True"
    assert "All models are stopped" in (home / "logs" / "triton.log").read_text(), "it was killed"
    assert marked(home) == []
    assert shared_memory(home) == []
    assert not semaphore(home).exists()
    assert control.status(home)["state"] == "stopped"
    assert control.down(home) is False


def test_after_kill_9_of_the_supervisor_the_next_start_leaves_one_set(home: Path) -> None:
    control.up(home, plan(home))
    first = {process.pid for process in marked(home)}
    endpoints = control.endpoints(home)
    os.kill(control.status(home)["supervisor"]["pid"], signal.SIGKILL)
    until(lambda: control.status(home)["state"] == "dead")
    # By name, not by process id: PostgreSQL's own helpers come and go.
    outlived = {process.pid for process in marked(home)}
    assert sorted(_commands(outlived)) == ["kafka", "postgres", "triton", "worker"], (
        "the servers outlive their supervisor"
    )
    assert control.up(home, plan(home)) == endpoints
    second = {process.pid for process in marked(home)}
    assert not first & second
    assert sorted(_commands(second)) == sorted(["postgres", "kafka", "triton", "worker"]), "exactly one of each"
    os.kill(control.status(home)["supervisor"]["pid"], signal.SIGKILL)
    until(lambda: control.status(home)["state"] == "dead")
    control.down(home)
    assert marked(home) == []
    assert shared_memory(home) == []
    assert not semaphore(home).exists()


class _Leaving:
    """A worker of which each look finds another process id."""

    def __init__(self, *pids: int | None) -> None:
        self._pids = iter(pids)

    @property
    def pid(self) -> int | None:
        return next(self._pids)


class _Moving:
    """A server that starts with a new address."""

    name = "triton"

    def start(self) -> None:
        pass


def test_a_worker_that_leaves_just_when_it_is_told_to_harms_nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = iter([{"triton": "before"}, *[{"triton": "after"}] * 3])
    monkeypatch.setattr(Stack, "endpoints", property(lambda stack: next(addresses)))
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda sign, _: told.append(sign))
    try:
        with subprocess.Popen(["sleep", "60"]) as here:
            supervisor = Supervisor(home, plan(home))
            supervisor._workers = [_Leaving(gone.pid, gone.pid), _Leaving(here.pid, None)]  # type: ignore[list-item]
            supervisor._start_again(_Moving())  # type: ignore[arg-type]
            assert here.wait(10) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [], "that was meant for a worker"


class _Dying:
    """A unit that has died, and lives once it was started again."""

    name, check_seconds, pid, ending = "worker", 1.0, None, "SIGSEGV"
    started = False
    wrong = ""

    def start(self) -> None:
        if self.wrong:
            wrong, self.wrong = self.wrong, ""
            raise StackError(wrong)
        self.started = True
        self.pid = os.getpid()  # type: ignore[assignment]

    def stop(self) -> None:
        pass

    def healthy(self) -> bool:
        return True


def watched(home: Path, unit: _Dying) -> bool:
    """Whether the unit's watch goes on when it has started again. status.json cannot be written: every write is an OSError."""
    supervisor = Supervisor(home, plan(home))
    supervisor._order = [unit.name]
    (home / "status.new").mkdir()  # where it is written first
    watch = threading.Thread(target=supervisor._watch, args=(unit,))
    watch.start()
    until(lambda: unit.started or not watch.is_alive(), seconds=20)
    alive = watch.is_alive()
    supervisor.stop()
    watch.join(10)
    return alive


def test_a_disk_that_takes_no_status_ends_no_watch(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Stack, "endpoints", {})
    assert watched(home, _Dying())
    assert "status.json was not written" in caplog.text
    assert "worker: died (SIGSEGV); restarting in 0.5 s" in caplog.text


def test_a_start_that_failed_is_why_the_next_one_is_made(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Stack, "endpoints", {})
    unit = _Dying()
    unit.wrong = "no room\nand a long log"
    assert watched(home, unit)
    assert "worker: no room; restarting in 1 s" in caplog.text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("EARFUL_TOPIC_PREFIX=acme.", "acme. here"),
        ("EARFUL_TOPIC_PREFX=acme.", "unknown setting EARFUL_TOPIC_PREFX; did you mean "),
    ],
)
def test_a_worker_reads_the_env_file_of_the_folder_in_which_all_was_started(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    monkeypatch.setattr(Stack, "endpoints", {})
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(line + "\n")
    code = "import settings; print(settings.load().topic_prefix, 'here')"
    worker = Worker("worker", [sys.executable, "-c", code], Stack(home, model_repositories=[]), {"PYTHONPATH": ROOT})
    worker.start()
    until(lambda: not worker.healthy())
    worker.stop()
    assert says in (home / "logs" / "worker.log").read_text()


def _commands(pids: set[int]) -> list[str]:
    """The stack's own children by name: those whose parent is not of the stack."""
    return [
        process.environ()[MARK].rsplit(":", 1)[1] for process in map(psutil.Process, pids) if process.ppid() not in pids
    ]


def test_a_worker_that_cannot_stay_up_is_tried_ever_more_rarely(home: Path) -> None:
    control.up(home, plan(home, workers={"worker": [sys.executable, "-c", "exit(75)"]}))
    log = home / "logs" / "supervisor.log"
    until(lambda: log.read_text().count("worker: died") >= 3)
    told = re.findall(r"worker: died \(exit code 75\); restarting in (\S+) s", log.read_text())
    assert told[:3] == ["0.5", "1", "2"]
    assert {name: state for name, state in states(home).items() if name != "worker"} == dict.fromkeys(
        ["postgres", "kafka", "triton"], "healthy"
    )


def test_a_failing_preparation_is_told_and_stops_everything(home: Path) -> None:
    """Also: what these two logs held before is set aside where it was more than 20 MB."""
    (home / "logs").mkdir()
    for name in ("supervisor.log", "prepare.log"):
        (home / "logs" / name).touch()
        os.truncate(home / "logs" / name, (20 << 20) + 1)
    with pytest.raises(StackError, match=r"ended with 3(.|\n)*no such table"):
        control.up(home, plan(home, prepare=[[sys.executable, "-c", "print('no such table'); exit(3)"]]))
    until(lambda: control.status(home)["state"] == "failed")
    assert marked(home) == []
    assert {path.name for path in (home / "logs").glob("*.log.1")} == {"supervisor.log.1", "prepare.log.1"}


def segments() -> set[Path]:
    """PostgreSQL's regions in /dev/shm, of whichever server."""
    return set(Path("/dev/shm").glob("PostgreSQL.*"))


@pytest.mark.parametrize("moment", ["at once", "while the servers start"])
def test_a_start_that_is_interrupted_leaves_nothing_running(home: Path, moment: str) -> None:
    before = segments()

    def interrupt(state: str) -> None:
        if moment == "at once" or len(marked(home)) > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        control.up(home, plan(home), tick=interrupt)
    # cmdline is None where it cannot be read: a zombie of someone else's, or another user's process
    assert [one.pid for one in psutil.process_iter(["cmdline"]) if str(home) in (one.info["cmdline"] or [])] == []
    assert marked(home) == []
    assert segments() <= before, "initdb has some, too"
    assert control.status(home)["state"] == "stopped"


def test_who_stops_a_stack_does_not_wait_for_a_server_that_only_starts(home: Path) -> None:
    models = home / "models"
    shutil.copytree(MODELS / "aspects", models / "aspects")
    (models / "aspects" / "1" / "model.py").write_text("import threading\nthreading.Event().wait(600)\n")

    def interrupt(state: str) -> None:
        with contextlib.suppress(OSError, LookupError, psycopg.OperationalError):  # not there yet
            psycopg.connect(Stack(home, model_repositories=[]).postgres.url).close()
            if marked(home, "triton"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        control.up(home, plan(home, model_repositories=[str(models)]), tick=interrupt)
    assert control.status(home)["state"] == "stopped", "it was killed, because it did not stop"
    assert marked(home) == []
    assert "database system is shut down" in (home / "logs" / "postgres.log").read_text(), "a healthy server was killed"


def test_who_stops_a_stack_does_not_wait_for_its_preparation(home: Path) -> None:
    def interrupt(state: str) -> None:
        if marked(home, "prepare"):
            raise KeyboardInterrupt

    endless = [sys.executable, "-c", "import threading; threading.Event().wait(600)"]
    with pytest.raises(KeyboardInterrupt):
        control.up(home, plan(home, prepare=[endless]), tick=interrupt)
    assert control.status(home)["state"] == "stopped", "it was killed, because it did not stop"
    assert marked(home) == []


def test_a_model_that_does_not_load_is_told(home: Path) -> None:
    models = home / "models"
    shutil.copytree(MODELS / "aspects", models / "aspects")
    (models / "aspects" / "1" / "model.py").write_text("raise ImportError('no weights here')\n")
    with pytest.raises(StackError, match=r"triton(.|\n)*no weights here"):
        control.up(home, plan(home, model_repositories=[str(models)]))


def test_the_plan_is_readable_afterwards(running: Path) -> None:
    assert json.loads((running / "plan.json").read_text())["model_repositories"] == [str(MODELS)]
