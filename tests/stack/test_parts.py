"""The small parts: ports, jars, preflight, canaries, and Kafka when its ports are gone."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from kafka.admin import KafkaAdminClient, NewTopic
from tritonclient.grpc import InferenceServerClient, InferInput

from stack import jars, preflight, process
from stack.canary import Canary
from stack.kafka import Kafka
from stack.pause import Pause
from stack.ports import Ports
from stack.process import Child, StackError
from stack.stack import Stack
from stack.triton import Triton

ROOT = Path(__file__).parent.parent.parent
MODELS = ROOT / "tests" / "models"


def test_ports_are_remembered_and_replaced_when_taken(tmp_path: Path) -> None:
    ports = Ports(tmp_path)
    ports.choose("a", "b")
    first = {"a": ports["a"], "b": ports["b"]}
    assert len(set(first.values())) == 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["a"]))
        taken.listen()
        again = Ports(tmp_path)
        again.choose("a", "b")
    assert again["a"] != first["a"]
    assert again["b"] == first["b"]


def test_the_pause_grows_and_starts_anew_after_30_s_of_health() -> None:
    now = 0.0
    pause = Pause(lambda: now)
    pause.started()
    assert [pause.failed() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    pause.started()
    now += 30
    assert pause.failed() == 30
    now += 1000  # not health: it was never started meanwhile
    assert pause.failed() == 30
    pause.started()
    now += 30.1
    assert pause.failed() == 0.5


@pytest.mark.timeout(180)
def test_kafka_keeps_its_topics_when_its_ports_are_taken(tmp_path: Path) -> None:
    ports = Ports(tmp_path)
    kafka = Kafka(tmp_path, ports)
    try:
        kafka.start()
        admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        admin.create_topics([NewTopic("kept", 1, 1)])
        admin.close()
        before = kafka.bootstrap
        kafka.stop()
        with socket.socket() as one, socket.socket() as two:
            for taken, name in ((one, "kafka"), (two, "kafka_controller")):
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind(("127.0.0.1", ports[name]))
                taken.listen()
            kafka.start()
        assert kafka.bootstrap != before
        admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        assert "kept" in admin.list_topics()
        admin.create_topics([NewTopic("made-after", 1, 1)])
        admin.close()
    finally:
        kafka.stop()


def test_a_kafka_that_needs_minutes_on_a_busy_machine_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended for what it does not do only after five minutes; else no start would ever come to its end there."""
    passed, begin = [0.0], Child.start
    clock = SimpleNamespace(monotonic=lambda: passed[0], sleep=lambda seconds: passed.append(passed.pop() + 10))
    monkeypatch.setattr(process, "time", clock)
    monkeypatch.setattr(Child, "start", lambda child, command, *, env: begin(child, ["sleep", "600"], env=env))
    monkeypatch.setattr(Kafka, "healthy", lambda kafka: passed[0] > 240)
    (tmp_path / "kafka" / "data").mkdir(parents=True)
    (tmp_path / "kafka" / "data" / "meta.properties").touch()
    kafka = Kafka(tmp_path, Ports(tmp_path))
    try:
        kafka.start()
        assert passed[0] == 250
    finally:
        kafka.stop()


def test_every_jar_is_locked_and_a_changed_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "stack" / "jgo.lock.toml").read_text()
    assert text.count("sha256 = ") == text.count("[[dependencies]]") == len(jars.classpath())
    digest = text.split('sha256 = "')[1][:64]
    changed = tmp_path / "jgo.lock.toml"
    changed.write_text(text.replace(digest, "0" * 64))
    monkeypatch.setattr(jars, "_LOCK", changed)
    with pytest.raises(RuntimeError, match=r"kafka.*\.jar is not the jar that jgo.lock.toml names"):
        jars.classpath()


def test_why_a_start_failed_is_found_in_a_log_that_was_set_aside_meanwhile(tmp_path: Path) -> None:
    child = Child("one", home=tmp_path)
    child.log.parent.mkdir()
    child.log.write_text("of an earlier life\n" * 100)
    child.start(["sh", "-c", f": > {child.log}; echo no luck; exit 3"], env={"PATH": os.defpath})
    with pytest.raises(StackError, match=r"exit code 3(.|\n)*no luck"):
        child.wait_until(lambda: False, seconds=30)


@pytest.mark.parametrize(
    ("command", "how"), [("exit 75", "exit code 75"), ("kill -SEGV $$", "SIGSEGV"), ("kill -40 $$", "signal 40")]
)
def test_how_a_process_ended_is_told(tmp_path: Path, command: str, how: str) -> None:
    child = Child("one", home=tmp_path)
    assert child.ending == ""
    child.start(["sh", "-c", command], env={"PATH": os.defpath})
    with pytest.raises(StackError, match=f"ended with {how} at its start"):
        child.wait_until(lambda: False, seconds=30)
    assert child.ending == how


def test_a_preparing_command_that_does_not_end_or_fails_is_told_shortly(tmp_path: Path) -> None:
    child, env = Child("kafka", home=tmp_path), {"PATH": os.defpath}
    command = ["sh", "-c", "exec sleep 60", *["long/class/path.jar"] * 100]
    with pytest.raises(StackError) as slow:
        child.run_to_end("kafka could not format", command, env=env, seconds=0.1)
    assert str(slow.value) == "kafka could not format within 0.1 s: the machine may be too busy"
    with pytest.raises(StackError, match=r"^kafka could not format:\nno space\n$"):
        child.run_to_end("kafka could not format", ["sh", "-c", "echo no space; exit 1"], env=env, seconds=60)


def test_this_machine_passes_the_preflight() -> None:
    assert preflight.problem() is None
    done = subprocess.run([sys.executable, ROOT / "stack" / "preflight.py"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda patch: patch.setattr(platform, "machine", lambda: "aarch64"), "needs Linux on x86-64"),
        (lambda patch: patch.setattr(sys, "version_info", (3, 13, 0)), "needs Python 3.11 or 3.12"),
        (lambda patch: patch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31")), "glibc 2.35 or later"),
        (lambda patch: patch.setattr(preflight, "libpython_folder", lambda: None), "install the package libpython3"),
        (lambda patch: patch.setitem(sys.modules, "ensurepip", None), "-venv"),
        (lambda patch: patch.setenv("EARFUL_HOME", "/home/a b"), "/home/a b may hold only ASCII"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(change: object, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch)  # type: ignore[operator]
    problem = preflight.problem()
    assert problem is not None
    assert said in problem
    assert "\n" not in problem


def test_the_python_chooser_takes_what_fits_and_says_what_does_not(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\necho 'Too old.'\nexit 1\n")
    old.chmod(0o755)

    def choose(pythons: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", str(ROOT / "stack" / "find-python.sh")]
        env = {**os.environ, "PYTHON": pythons}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert choose(f"{old} {sys.executable}").stdout.strip() == sys.executable
    refused = choose(str(old))
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", "Too old.\n")
    assert "no python3 is on the PATH" in choose("no-such-python").stderr


def test_a_failed_canary_counts_as_a_miss_only_if_nobody_else_was_answered(stack: Stack) -> None:
    client = InferenceServerClient(stack.endpoints["triton"])
    canary = Canary.read(MODELS / "aspects")
    assert canary.sing(client)
    text = InferInput("TEXT", [1], "BYTES")
    text.set_data_from_numpy(np.array([b"x"], np.object_))
    canary.inputs = [text, text]  # refused by the server: a canary that gets no answer
    assert not canary.sing(client)
    client.infer("aspects", [text])
    assert canary.sing(client)
    assert not canary.sing(client)


def test_a_canary_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    (tmp_path / "canary.json").write_text(
        '{"inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [2], "data": []}]}'
    )
    with pytest.raises(ValueError, match=r"canary\.json"):
        Canary.read(tmp_path)


@pytest.mark.parametrize("name", ["a b", "ü", "a'b", "a$(touch b)", "a,b"])
def test_a_home_whose_name_a_shell_would_read_is_refused(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    with pytest.raises(StackError, match="EARFUL_HOME=DIR names another folder"):
        Triton(home, Ports(home), []).start()


def test_a_missing_server_environment_is_told(tmp_path: Path) -> None:
    triton = Triton(tmp_path, Ports(tmp_path), [MODELS], environment=tmp_path / "nowhere")
    with pytest.raises(StackError, match="run `make setup`"):
        triton.start()
