"""On one's own servers: Kafka with SASL and TLS, PostgreSQL with TLS, a topic prefix, and no right too many.

The order is that of docs/own-servers.md; the tests build on each other, as an administrator's day does.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from kafka import KafkaAdminClient
from kafka.admin import ACLOperation, ConfigResource, ResourceType
from psycopg import sql

from stack.process import Child, marked
from stack.stack import Stack
from tests.commands.runner import earful
from tests.security.servers import PREFIX, USER, OwnServers, acl

PROJECT = Path(__file__).resolve().parents[2]


class Deployment:
    """The settings of each person and program that works here."""

    def __init__(self, own: OwnServers, triton: str) -> None:
        self.own = own
        self.migrate = own.environment(triton, "acme_migrate")
        self.worker = own.environment(triton, "acme_worker")
        self.analyst = own.environment(triton, "acme_analyst")
        self.children: list[Child] = []

    def start_worker(self, name: str, stage: str, **settings: str) -> Child:
        child = Child(name, home=self.own.home)
        env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        child.start(
            [sys.executable, "-m", "cli", "worker", stage],
            env=env | {"PYTHONPATH": str(PROJECT)} | self.worker | settings,
        )
        self.children.append(child)
        return child

    def rows(self, query: sql.SQL | str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.own.superuser_url, autocommit=True) as connection:
            return connection.execute(query, parameters).fetchall()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def deployment(own: OwnServers, stack: Stack) -> Iterator[Deployment]:
    """Topics, schema, logins and a run, made by the commands with what each needs and no more."""
    made = Deployment(own, stack.endpoints["triton"])
    assert earful("topics", "check", env=made.worker).code == 1
    created = earful("topics", "create", env=made.worker)
    assert (created.code, "created 9 topics" in created.out) == (0, True), created
    migrated = earful("migrate", env=made.migrate)
    assert migrated.code == 0, migrated
    with psycopg.connect(own.postgres_url("acme_migrate"), autocommit=True) as connection:
        for login, group in (("acme_worker", "earful_ingest"), ("acme_analyst", "earful_analyst")):
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                    sql.Identifier(login), sql.Literal(own.logins[login]), sql.Identifier(group)
                )
            )
    opened = earful("runs", "open", env=made.worker)
    assert opened.code == 0, opened
    yield made
    for child in made.children:
        child.stop()


def wait_for(holds: Any, what: str, child: Child, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{child.log.read_text()[-3000:]}"
        time.sleep(0.1)


def review_file(folder: Path, review_id: str) -> str:
    file = folder / "reviews.jsonl"
    file.write_text(
        f'{{"review_id": "{review_id}", "product": "kettle", "text": "The battery is great.",'
        f' "created_at": "{datetime.now(UTC).isoformat()}"}}\n'
    )
    return str(file)


def test_topics_are_as_they_should_be_or_it_is_said(deployment: Deployment) -> None:
    checked = earful("topics", "check", env=deployment.worker)
    assert (checked.code, "all 9 topics are there" in checked.out) == (0, True), checked
    assert "the settings of 9 topics (it needs DescribeConfigs), so they were not compared" in checked.err
    found = earful("topics", "check", "--json", env=deployment.worker).json()
    assert set(found["topics"].values()) == {3}
    assert all(name.startswith(PREFIX) for name in found["topics"])
    again = earful("topics", "create", env=deployment.worker)
    assert (again.code, "all were there" in again.out) == (0, True)
    other = earful("topics", "check", env=deployment.worker | {"EARFUL_PARTITIONS": "4"})
    assert other.code == 1
    assert "EARFUL_PARTITIONS=4" in other.err


def test_a_topic_that_this_login_may_not_see_is_not_taken_for_missing(deployment: Deployment) -> None:
    """`topics create` could not make it, and it may be there."""
    other = earful("topics", "check", env=deployment.worker | {"EARFUL_TOPIC_PREFIX": "theirs."})
    assert other.code == 1
    assert other.sentence().startswith("error: Kafka does not tell this login of theirs.calls.audio.v1, ")
    assert other.sentence().endswith("(it needs Describe)")


@pytest.fixture
def administrator(deployment: Deployment) -> Iterator[KafkaAdminClient]:
    """Kafka's; the workers' login gets the right to see settings meanwhile."""
    client = KafkaAdminClient(bootstrap_servers=deployment.own.plain_bootstrap)
    right = acl(ACLOperation.DESCRIBE_CONFIGS, ResourceType.TOPIC)
    client.create_acls([right])
    yield client
    client.delete_acls([right])
    client.close()


def test_topics_with_other_settings_are_named_and_how_to_mend_them(
    deployment: Deployment, administrator: KafkaAdminClient
) -> None:
    reviews, audio = f"{PREFIX}reviews.submitted.v1", f"{PREFIX}calls.audio.v1"

    def change(**of_reviews: str) -> None:
        settings = {name.replace("_", "."): value for name, value in of_reviews.items()}
        administrator.alter_configs([ConfigResource("TOPIC", reviews, settings)])

    well = earful("topics", "check", env=deployment.worker)
    assert (well.code, well.err) == (0, "")
    change(retention_ms="86400000", cleanup_policy="compact,delete", retention_bytes="1000000")
    try:
        wrong = earful("topics", "check", env=deployment.worker)
        found = earful("topics", "check", "--json", env=deployment.worker).json()
    finally:
        change(retention_ms="-1", cleanup_policy="delete", retention_bytes="-1")
    assert wrong.code == 1
    assert wrong.sentence() == (
        f"error: {reviews} has cleanup.policy=compact,delete and not delete, retention.ms=86400000 and not -1, "
        "retention.bytes=1000000 and not -1; this mends it: kafka-configs.sh --bootstrap-server "
        f"{deployment.own.secure_bootstrap} --command-config FILE --alter --entity-type topics --entity-name {reviews} "
        "--add-config cleanup.policy=delete,retention.ms=-1,retention.bytes=-1"
    )
    assert found["other_settings"][reviews]["retention.ms"] == {"found": "86400000", "wanted": "-1"}
    assert (set(found["other_settings"]), found["fewer_copies"], found["unread"]) == ({reviews}, {}, [])
    few = earful("topics", "check", env=deployment.worker | {"EARFUL_REPLICATION_FACTOR": "2"})
    assert (few.code, f"EARFUL_REPLICATION_FACTOR=2: {audio} (1), " in few.sentence()) == (1, True), few


def test_a_review_goes_the_whole_way(deployment: Deployment, tmp_path: Path) -> None:
    worker = deployment.start_worker("own-reviewer", "reviewer", EARFUL_HEALTH_PORT=free_port())
    sent = earful("send", "reviews", review_file(tmp_path, "own-1"), env=deployment.worker)
    assert sent.code == 0, sent
    query = "SELECT aspects FROM analytics_v1.reviews WHERE review_id = 'own-1'"

    def row() -> list[dict[str, Any]]:
        return earful("sql", query, "--json", env=deployment.analyst).json()  # type: ignore[no-any-return]

    wait_for(row, "a row of the review", worker)
    assert row() == [{"aspects": 1}]
    told = earful("explain", "review", "own-1", "--json", env=deployment.worker).json()
    assert told["waits_for"] == "nothing"
    # docs/own-servers.md, "Least rights": what each login may ask
    assert earful("report", "--json", env=deployment.analyst).code == 0
    for arguments in (("report", "--json"), ("deadletters", "list"), ("runs", "list")):
        assert earful(*arguments, env=deployment.worker).code == 0, arguments
    addresses = {
        connection.laddr.ip
        for process in [*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)]
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}
    worker.stop()
    assert worker.returncode == 0


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_all_that_listens_listens_on_loopback(own: OwnServers) -> None:
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in marked(own.home)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ({"EARFUL_KAFKA_SASL_PASSWORD": "wrong"}, 1, f"refuses user '{USER}'"),
        ({"EARFUL_KAFKA_SSL_CAFILE": "OTHER"}, 1, "certificate"),
        ({"EARFUL_KAFKA_SSL_CAFILE": __file__}, 1, "holds no certificate in PEM"),
        ({"EARFUL_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, 1, "EARFUL_KAFKA_SECURITY_PROTOCOL"),
        ({"EARFUL_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, 3, "127.0.0.1:1 (connection refused)"),
        ({"EARFUL_TOPIC_PREFIX": "acme.none."}, 1, "topic acme.none.reviews.submitted.v1 does not exist"),
        ({"EARFUL_TOPIC_PREFIX": "elsewhere."}, 1, "does not let this user describe topic elsewhere."),
        ({"EARFUL_KAFKA_SSL_CAFILE": "/no/such/file"}, 2, "EARFUL_KAFKA_SSL_CAFILE"),
    ],
)
def test_a_producer_is_told_what_is_wrong_with_kafka(
    deployment: Deployment, tmp_path: Path, settings: dict[str, str], code: int, says: str
) -> None:
    settings = {name: str(deployment.own.other_ca) if value == "OTHER" else value for name, value in settings.items()}
    began = time.monotonic()
    done = earful("send", "reviews", review_file(tmp_path, "refused"), env=deployment.worker | settings)
    assert (done.code, says in done.sentence()) == (code, True), done
    assert time.monotonic() - began < 30
    assert deployment.own.kafka_password not in done.err


def test_a_command_is_told_what_is_wrong_with_postgres(deployment: Deployment) -> None:
    own = deployment.own

    def tried(url: str) -> tuple[int, str]:
        done = earful("runs", "list", env=deployment.worker | {"EARFUL_POSTGRES_URL": url})
        assert own.logins["acme_worker"] not in done.err
        return done.code, done.sentence()

    code, says = tried(own.postgres_url("acme_worker", password="wrong"))
    assert (code, "password authentication failed" in says) == (1, True), says
    code, says = tried(own.postgres_url("acme_worker", ca=own.other_ca))
    assert (code, "certificate verify failed" in says) == (1, True), says
    code, says = tried("postgresql://acme_worker@127.0.0.1:1/earful")
    assert (code, "does not answer" in says) == (3, True), says
    assert tried("mysql://acme_worker@127.0.0.1/earful")[0] == 2


def test_prefix_and_groups_bound_the_rights(deployment: Deployment) -> None:
    refused = earful("topics", "create", env=deployment.worker | {"EARFUL_TOPIC_PREFIX": "other."})
    assert (refused.code, "refuses" in refused.sentence()) == (1, True)
    hidden = earful("topics", "check", env=deployment.worker | {"EARFUL_TOPIC_PREFIX": ""})
    assert "does not tell this login of calls.audio.v1" in hidden.sentence()
    for arguments in (("migrate",), ("sql", "SELECT 1")):
        done = earful(*arguments, env=deployment.worker)
        assert (done.code, "this login may not" in done.sentence()) == (1, True), done
    done = earful("explain", "review", "own-1", env=deployment.analyst)
    assert (done.code, "this login may not" in done.sentence()) == (1, True), done


def test_a_worker_leaves_when_kafka_refuses_it(deployment: Deployment) -> None:
    worker = deployment.start_worker("own-refused", "reviewer", EARFUL_KAFKA_SASL_PASSWORD="wrong")
    wait_for(lambda: worker.returncode is not None, "its end", worker)
    lines = worker.log.read_text().splitlines()
    assert worker.returncode == 77
    assert len(lines) == 1, lines
    assert f"refuses user '{USER}'" in lines[0]


def test_a_worker_waits_aloud_for_a_missing_topic(deployment: Deployment) -> None:
    worker = deployment.start_worker("own-topicless", "reviewer", EARFUL_TOPIC_PREFIX="acme.none.")
    says = "topic acme.none.reviews.submitted.v1 does not exist; `earful topics create` makes it"
    wait_for(lambda: says in worker.log.read_text(), "the sentence", worker)
    worker.stop()
    assert worker.returncode == 0


def test_a_worker_leaves_where_it_may_not_see_its_topic(deployment: Deployment) -> None:
    worker = deployment.start_worker("own-elsewhere", "reviewer", EARFUL_TOPIC_PREFIX="elsewhere.")
    wait_for(lambda: worker.returncode is not None, "its end", worker)
    assert worker.returncode == 77
    assert "does not let this user describe topic elsewhere.reviews.submitted.v1" in worker.log.read_text()


@pytest.mark.parametrize(("revision", "advice"), [("0000", "run `earful migrate`"), ("9999", "update Earful")])
def test_a_worker_refuses_another_schema(deployment: Deployment, revision: str, advice: str) -> None:
    def pretend(version: str) -> None:
        with psycopg.connect(deployment.own.superuser_url, autocommit=True) as connection:
            connection.execute("UPDATE ingest.schema_version SET version_num = %s", [version])

    [(now,)] = deployment.rows("SELECT version_num FROM ingest.schema_version")
    pretend(revision)
    try:
        worker = deployment.start_worker(f"own-{revision}", "reviewer")
        wait_for(lambda: worker.returncode is not None, "its end", worker)
        migrated = earful("migrate", env=deployment.migrate) if revision == "9999" else None
    finally:
        pretend(now)
    [line] = worker.log.read_text().splitlines()
    assert worker.returncode == 75
    assert f"at revision {revision}" in line
    assert advice in line
    if migrated is not None:
        assert (migrated.code, "newer than" in migrated.sentence()) == (1, True)
