"""`earful demo` on servers that run already: which ones it uses, and what it stops."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from commands import demo, local
from stream.topics import Topics
from tests.commands.runner import Done, earful
from tests.workers.pipeline import Pipeline

#: What somebody's shell may hold: servers of their own, which are not the local ones.
ELSEWHERE = {
    "EARFUL_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "EARFUL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "EARFUL_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    "EARFUL_TRITON_URL": "127.0.0.1:1",
    "EARFUL_TRITON_SSL": "true",
}


def run(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, *, ran: bool = False, keep: str = "") -> tuple[Done, int]:
    """The demo where `up` gives the pipeline's servers; and how often it stopped them."""
    stops: list[Path] = []
    endpoints = {**pipeline.stack.endpoints, "postgres_url": pipeline.url}
    monkeypatch.setattr(demo, "start", lambda home: endpoints)
    monkeypatch.setattr(demo, "running", lambda home: ran)
    monkeypatch.setattr(demo, "stop", stops.append)
    done = earful("demo", env=ELSEWHERE | {"EARFUL_TOPIC_PREFIX": pipeline.topics.prefix, "KEEP": keep})
    return done, len(stops)


def test_the_samples_go_to_the_local_servers_whatever_the_environment_names(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, stops = run(pipeline, monkeypatch)
    assert (done.code, stops) == (0, 1), done.err
    assert "all analysed" in done.out
    assert pipeline.ends(Topics(pipeline.topics.prefix).calls_audio) != {0: 0, 1: 0, 2: 0}
    again, _ = run(pipeline, monkeypatch)
    assert "the samples are already there; nothing is sent twice" in again.out


@pytest.mark.parametrize(("ran", "keep", "stops"), [(False, "", 1), (False, "0", 1), (False, "1", 0), (True, "", 0)])
def test_it_stops_what_it_started_unless_it_is_told_to_keep_it(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, ran: bool, keep: str, stops: int
) -> None:
    monkeypatch.setattr(demo, "analyse", lambda using: None)
    done, stopped = run(pipeline, monkeypatch, ran=ran, keep=keep)
    assert (done.code, stopped) == (0, stops)
    assert ("earful up; the data is kept.\nearful status --json has the URL for SQL then.\n" in done.out) == (
        stops == 1
    )
    assert ("The stack keeps running" in done.out) == (stops == 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_too(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(demo, "analyse", lambda using: os.kill(os.getpid(), number))
    done, stops = run(pipeline, monkeypatch)
    assert (done.code, stops) == (128 + number, 1)
    assert signal.getsignal(number) is before


def test_a_home_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in ("up", "demo"):
        done = earful(command, env={"EARFUL_HOME": str(tmp_path / "file")})
        assert (done.code, "no stack can live in" in done.sentence()) == (2, True)
    assert not local.running(tmp_path / "file")
    assert earful("status", env={"EARFUL_HOME": str(tmp_path / "file")}).code == 3
    said = earful("down", env={"EARFUL_HOME": str(tmp_path / "file")}).out
    assert said == f"nothing was running in {tmp_path / 'file'}\n"
