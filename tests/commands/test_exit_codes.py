"""0 done, 1 failed, 2 wrong arguments or settings, 3 what it needs does not answer; always one sentence, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

import cli
from commands.context import explained
from settings import PROJECT, Settings, load
from tests.commands.conftest import Run, settings_of
from tests.commands.runner import earful
from tests.workers.pipeline import Pipeline

NOWHERE = {
    "EARFUL_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "EARFUL_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    "EARFUL_TRITON_URL": "127.0.0.1:1",
}


@pytest.mark.parametrize(
    "arguments",
    [
        ("sql",),
        ("worker", "cook"),
        ("nonsense",),
        ("send", "call", "no-such-file.mp3"),
        ("send", "reviews", "no-such-file.csv"),
        ("deadletters", "show", "no-uuid"),
        ("runs", "use", "no-uuid"),
        ("logs", "cook"),
        ("eval", "asr", "."),
        ("transcribe", "--engine", "ear", "a.txt"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_2(arguments: tuple[str, ...]) -> None:
    Path("a.txt").write_text("not audio")
    done = earful(*arguments, env=NOWHERE)
    assert done.code == 2
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"EARFUL_POSTGRES_ULR": "x"}, "did you mean EARFUL_POSTGRES_URL"),
        ({"EARFUL_PARTITIONS": "many"}, "EARFUL_PARTITIONS"),
        ({"EARFUL_TOPIC_PREFIX": "a b"}, "EARFUL_TOPIC_PREFIX"),
        ({"EARFUL_POSTGRES_URL": "mysql://me:secret@db/x"}, "EARFUL_POSTGRES_URL: Value error, it begins with"),
        *(
            ({"EARFUL_POSTGRES_URL": f"postgresql://me:{secret}@127.0.0.1:1/db"}, "percent-encode the password's")
            for secret in ("secret%er2", "secret%", "se@secret", "se@cret:secret", "secret/w", "secret w")
        ),
        *(
            ({"EARFUL_POSTGRES_URL": f"postgresql://me@db:{port}/db"}, "EARFUL_POSTGRES_URL: Value error, it is")
            for port in ("secret", "0", "65536")
        ),
        *(
            (
                {"EARFUL_POSTGRES_URL": f"postgresql://me:secret@127.0.0.1:1/db?{query}"},
                "Value error, its hosts are names",
            )
            for query in (
                "port=abc",
                "port=0",
                "port=65536",
                "host=a:1",
                "host=a,b&port=1",
                "host=a&port=1,2",
                "host=[::1]",
                "host=",
            )
        ),
        ({"EARFUL_POSTGRES_URL": "postgresql://me:secret@h,i:2/db"}, "Value error, its hosts are names"),
        ({"EARFUL_POSTGRES_URL": "postgresql://me:secret@127.0.0.1:1/db?hots=a"}, "Value error, its query has what"),
        ({"EARFUL_KAFKA_SSL_CAFILE": "/no/such/file"}, "EARFUL_KAFKA_SSL_CAFILE"),
        *(
            (
                {"EARFUL_KAFKA_BOOTSTRAP_SERVERS": servers},
                "EARFUL_KAFKA_BOOTSTRAP_SERVERS: Value error, it is host:port",
            )
            for servers in (
                "host:abc",
                "host:70000",
                "http://host:9092",
                "PLAINTEXT://host:9092",
                "host:9092,",
                "host:9092 other:9092",
            )
        ),
        ({"EARFUL_TRITON_URL": "http://host:8001"}, "EARFUL_TRITON_URL: Value error, it is host:port"),
        ({"EARFUL_KNOWN_ASPECTS": "/no/such/file"}, "EARFUL_KNOWN_ASPECTS: Value error, /no/such/file cannot be read"),
    ],
    ids=lambda one: " ".join(one.values()) if isinstance(one, dict) else "",
)
def test_wrong_settings_are_2_and_never_repeated(setting: dict[str, str], says: str) -> None:
    done = earful("report", env=NOWHERE | setting)
    assert (done.code, says in done.sentence()) == (2, True), done.err
    assert "secret" not in done.err


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ("{", "aspects.json is no JSON in UTF-8 (Expecting property name"),
        ('{"kettle": ["\\ud83d"]}', "aspects.json is no JSON in UTF-8 ('utf-8' codec can't encode"),
        ("[]", 'aspects.json is no object of lists: {"PRODUCT": ["ASPECT", ...]}'),
        ('{"kettle": "lid"}', "of 'kettle' it has no list of words"),
        ('{"kettle": ["lid", " "]}', "of 'kettle' it has no list of words"),
        (json.dumps({"kettle": ["lid"] * 1001}), "'kettle' has too long a list, 1,000 aspects of 20,000 characters"),
        (json.dumps({"kettle": ["l" * 20001]}), "'kettle' has too long a list"),
    ],
    ids=["no JSON", "no text", "no object", "no list", "no word", "too many", "too long"],
)
def test_wrong_lists_of_aspects_are_2(held: str, says: str) -> None:
    Path("aspects.json").write_text(held)
    done = earful("report", env=NOWHERE | {"EARFUL_KNOWN_ASPECTS": "aspects.json"})
    assert (done.code, says in done.sentence()) == (2, True), done.err


def test_a_right_list_of_aspects_is_taken() -> None:
    Path("aspects.json").write_text(json.dumps({"kettle": ["lid" * 33] * 200 + ["spout"], "radio": []}))
    assert earful("runs", "list", env=NOWHERE | {"EARFUL_KNOWN_ASPECTS": "aspects.json"}).code == 3


@pytest.mark.parametrize(
    "setting",
    [
        {"EARFUL_POSTGRES_URL": "postgres://me:p%40s%25s#?:s@127.0.0.1:1/db?sslmode=prefer&application_name=a@b"},
        {"EARFUL_POSTGRES_URL": "postgresql+psycopg://me@[::1]:1/db"},
        {"EARFUL_POSTGRES_URL": "postgresql://127.0.0.1:1"},
        {"EARFUL_POSTGRES_URL": "postgresql:///db?host=/no/such/socket"},
        {"EARFUL_POSTGRES_URL": "postgresql://me@/db?host=127.0.0.1,::1&port=1,2"},
        {"EARFUL_POSTGRES_URL": "postgresql://me@elsewhere:5432/db?host=127.0.0.1&port=1"},
        {"EARFUL_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1, kafka_2.example.net:9094,[::1]:1,bare"},
    ],
    ids=lambda one: " ".join(one.values()),
)
def test_right_settings_are_taken(setting: dict[str, str]) -> None:
    assert earful("runs", "list", env=NOWHERE | setting).code == 3


def test_space_around_a_server_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARFUL_KAFKA_BOOTSTRAP_SERVERS", " one:9092, two:9092 ")
    monkeypatch.setenv("EARFUL_TRITON_URL", " triton:8001 ")
    found = load()
    assert (found.kafka_bootstrap_servers, found.triton_url) == ("one:9092,two:9092", "triton:8001")


def test_no_error_of_the_settings_shows_a_password() -> None:
    with pytest.raises(ValueError, match="it begins with") as wrong:
        Settings(postgres_url=SecretStr("mysql://me:secret@db/x"), triton_url="http://me:secret@db")
    assert "secret" not in str(wrong.value)


def test_a_typing_error_in_the_env_file_is_found_too() -> None:
    Path(".env").write_text("EARFUL_POSTGRES_ULR=x\nEARFUL_VERSION=7\nPOSTGRES_PASSWORD=y\n")
    done = earful("report", env=NOWHERE)
    assert (done.code, "unknown setting EARFUL_POSTGRES_ULR; did you mean" in done.sentence()) == (2, True), done.err
    Path(".env").write_text("EARFUL_VERSION=7\nPOSTGRES_PASSWORD=y\nEARFUL_TOPIC_PREFIX=\n")
    assert earful("report", env=NOWHERE).code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("report",),
        ("sql", "SELECT 1"),
        ("explain", "call", "x"),
        ("explain", "review", "x"),
        ("deadletters", "list"),
        ("deadletters", "replay", str(uuid4())),
        ("topics", "check"),
        ("topics", "create"),
        ("send", "reviews", "a.jsonl"),
        ("migrate",),
        ("runs", "open"),
        ("runs", "list"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_servers_that_are_away_are_3(arguments: tuple[str, ...]) -> None:
    Path("a.jsonl").write_text('{"review_id": "r", "text": "Good.", "created_at": "2026-05-04", "product": "kettle"}\n')
    done = earful(*arguments, env=NOWHERE)
    assert (done.code, "answer" in done.sentence()) == (3, True), done.err


def test_a_stack_that_does_not_run_is_3() -> None:
    done = earful("status", "--json")
    assert done.code == 3
    assert done.json()["endpoints"] == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "call", "never-heard-of"),
        ("explain", "review", "never-heard-of"),
        ("deadletters", "show", str(uuid4())),
        ("deadletters", "replay", str(uuid4())),
        ("runs", "use", str(uuid4())),
        ("sql", "SELECT nothing FROM analytics_v1.calls"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_what_is_not_there_is_1(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.code == 1
    assert done.err.startswith("error: ")


def test_a_topic_that_is_not_there_is_1(run: Run) -> None:
    Path("a.jsonl").write_text('{"review_id": "r", "text": "Good.", "created_at": "2026-05-04", "product": "kettle"}\n')
    done = run("send", "reviews", "a.jsonl", EARFUL_TOPIC_PREFIX="nobody.")
    assert (done.code, "nobody.reviews.submitted.v1 does not exist" in done.sentence()) == (1, True), done.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["explain", "call", "\udcff"], 2, "an argument is not UTF-8 text"),
        (["sql", "SELECT '\udcff'"], 2, "an argument is not UTF-8 text"),
        (["cvib", "use", "model"], 2, "describes no model"),
        (["aspects", "model"], 2, "model is a folder"),
        (["eval", "asr", "model", "--engine", "whisper"], 1, "a.json: Too many levels of symbolic links"),
    ],
    ids=lambda one: " ".join(one[:2]).encode("ascii", "replace").decode() if isinstance(one, list) else "",
)
def test_what_cannot_be_read_is_one_sentence(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], code: int, says: str,
) -> None:  # fmt: skip
    Path("model").mkdir()
    Path("model/model.json").write_bytes(b"\xff")
    if arguments[0] == "eval":
        Path("model/a.json").symlink_to("a.json")
    for name, value in settings_of(pipeline).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["earful", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert (ended.value.code, says in said.err, "Traceback" in said.err) == (code, True, False), said.err


def test_the_last_lines_of_a_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "home" / "logs"
    folder.mkdir(parents=True)
    (folder / "kafka.log").write_text("one\ntwo\nthree\n")
    home = {"EARFUL_HOME": str(tmp_path / "home")}
    assert earful("logs", "kafka", "-n", "2", env=home).code == 0
    assert capfd.readouterr().out == "two\nthree\n"
    for few in ("0", "-1"):
        assert earful("logs", "kafka", "--lines", few, env=home).code == 2


@pytest.mark.parametrize("arguments", [("--help",), ("logs",), ("logs", "kafka", "-n", "9999")], ids=" ".join)
def test_a_reader_that_leaves_is_1_without_a_word(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """As of `| head -1`: what is printed here and what `tail` prints end alike."""
    folder = tmp_path / "home" / "logs"
    folder.mkdir(parents=True)
    (folder / "kafka.log").write_text("a line\n" * 10_000)
    reading, writing = os.pipe()
    os.close(reading)
    env = {name: value for name, value in os.environ.items() if not name.startswith("EARFUL_")}
    env |= {"EARFUL_HOME": str(tmp_path / "home"), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "cli", *arguments]
    done = subprocess.run(command, env=env, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_database_without_schema_wants_migrate(pipeline: Pipeline) -> None:
    empty = settings_of(pipeline) | {"EARFUL_POSTGRES_URL": pipeline.stack.endpoints["postgres_url"]}
    for arguments in (("report",), ("explain", "call", "x"), ("runs", "list"), ("deadletters", "list")):
        done = earful(*arguments, env=empty)
        assert (done.code, "run `earful migrate`" in done.sentence()) == (1, True), done.err


def test_a_server_without_earfuls_roles_wants_migrate() -> None:
    """Roles belong to the server, and the tests' has them: only what Postgres says is at hand."""
    said = psycopg.errors.InvalidParameterValue('role "earful_analyst" does not exist')
    assert "run `earful migrate`" in explained(said)[0]
    assert "run `earful migrate`" not in explained(psycopg.errors.InvalidParameterValue("invalid value"))[0]
