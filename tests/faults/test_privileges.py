"""Test 20: each database role tries everything outside its list; what listens; what a worker's client may ask of Triton."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psutil
import psycopg
import pytest
from psycopg import sql
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from stack.process import marked
from stack.stack import Stack
from tests.faults.results import Figures
from tests.workers.conftest import new_database

TABLES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN")
ALLOWED = {
    "earful_ingest": {"ingest": set(TABLES[:4]), "pii": set(TABLES[:4]), "analytics_v1": {"SELECT"}},
    "earful_analyst": {"ingest": set(), "pii": set(), "analytics_v1": {"SELECT"}},
}
#: Nobody but the owner says which schema this is.
READ_ONLY = {"ingest.schema_version"}

#: What neither may do, however it is asked.
FORBIDDEN = {
    "a schema": "CREATE SCHEMA mine",
    "a table in public": "CREATE TABLE public.mine (n int)",
    "a table of ingest": "CREATE TABLE ingest.mine (n int)",
    "another column": "ALTER TABLE ingest.calls ADD COLUMN mine int",
    "a table away": "DROP TABLE ingest.outbox",
    "all rows at once": "TRUNCATE ingest.verdicts",
    "a partition of its own": "CREATE TABLE ingest.p PARTITION OF ingest.utterances DEFAULT",
    "another view": "CREATE OR REPLACE VIEW analytics_v1.calls AS SELECT 1 AS n",
    "a trigger": "CREATE TRIGGER mine BEFORE INSERT ON ingest.calls EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "a function in ingest": "CREATE FUNCTION ingest.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a role": "CREATE ROLE mine SUPERUSER",
    "a better role": "ALTER ROLE CURRENT_USER SUPERUSER",
    "a membership": "GRANT earful_owner TO CURRENT_USER",
    "the owner": "SET ROLE earful_owner",
    "the superuser": "SET ROLE postgres",
    "other rights from now on": "ALTER DEFAULT PRIVILEGES FOR ROLE earful_owner GRANT SELECT ON TABLES TO PUBLIC",
    "a database": "CREATE DATABASE mine",
    "the database away": "DROP DATABASE postgres",
    "an extension": "CREATE EXTENSION file_fdw",
    "a function in C": "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE c AS 'mine', 'mine'",
    "a command of the system": "COPY (SELECT 1) TO PROGRAM 'id'",
    "a file": "COPY (SELECT 1) TO '/tmp/mine'",
    "a file of the server": "SELECT pg_read_file('postgresql.conf')",
    "a directory of the server": "SELECT pg_ls_dir('.')",
    "a large object from a file": "SELECT lo_import('/etc/passwd')",
    "passwords": "SELECT rolpassword FROM pg_authid",
    "a setting of the server": "ALTER SYSTEM SET log_statement = 'all'",
    "a reload": "SELECT pg_reload_conf()",
    "no more row locks": "SET session_replication_role = replica",
    "another's end": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres' LIMIT 1",
    "a subscription": "CREATE SUBSCRIPTION mine CONNECTION 'host=127.0.0.1' PUBLICATION p",
    "a publication of all": "CREATE PUBLICATION mine FOR ALL TABLES",
    "the schema's version": "UPDATE ingest.schema_version SET version_num = '9999'",
}
#: What an analyst may not do beside.
PRYING = {
    "raw payloads": "SELECT value FROM pii.dead_letter_payloads",
    "raw texts": "SELECT text FROM pii.review_texts",
    "the outbox": "SELECT * FROM ingest.outbox",
    "the ledger": "UPDATE ingest.ledger SET next_offset = 0",
    "another run": "UPDATE ingest.runs SET spec = '{}'",
    "a query of the owner": "SELECT * FROM ingest.runs FOR UPDATE",
}


@pytest.fixture(scope="module")
def url(stack: Stack) -> Iterator[str]:
    """A migrated database with a login in each group."""
    url = new_database(stack)
    with psycopg.connect(url, autocommit=True) as admin:
        for group in ALLOWED:
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' IN ROLE {}").format(
                    sql.Identifier(login(group)), sql.Identifier(group)
                )
            )
    yield url
    with psycopg.connect(url, autocommit=True) as admin:
        for group in ALLOWED:
            admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(login(group))))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login(group))))


def login(group: str) -> str:
    return f"faults_{group}"


def connect(url: str, group: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url, user=login(group), password="x", autocommit=True)


ATTEMPTS = [
    (group, name, statement)
    for group in ALLOWED
    for name, statement in {**FORBIDDEN, **(PRYING if group == "earful_analyst" else {})}.items()
]


@pytest.mark.proof(20)
def test_no_role_does_more_than_its_list(url: str, figures: Figures) -> None:
    figures.note(load=f"{len(ATTEMPTS)} attempts of 2 roles")
    done: list[str] = []
    for group in ALLOWED:
        with connect(url, group) as connection:
            # An analyst's login gets this as a default, which anybody may take back: here only the rights count.
            connection.execute("SET default_transaction_read_only = off")
            for name, statement in [(name, statement) for one, name, statement in ATTEMPTS if one == group]:
                try:
                    connection.execute(statement)  # type: ignore[call-overload]
                except psycopg.errors.InsufficientPrivilege:
                    continue
                except psycopg.Error as err:
                    done.append(f"{group}: {name}: {type(err).__name__} {err}")
                    continue
                done.append(f"{group}: {name}")
            # Refused with a warning only.
            connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA analytics_v1 TO PUBLIC")
            if connection.execute(
                "SELECT has_table_privilege('public', 'analytics_v1.calls', 'SELECT')"
            ).fetchone() != (False,):
                done.append(f"{group}: rights for others")
    assert not done, "\n".join(done)


@pytest.mark.proof(20)
def test_the_rights_on_every_table_and_view_are_the_listed(url: str) -> None:
    """Partitions too: rights are on parents only."""
    with psycopg.connect(url) as admin:
        relations = admin.execute(
            "SELECT oid, relnamespace::regnamespace::text, relname, relispartition FROM pg_class"
            " WHERE relkind IN ('r', 'p', 'v', 'm') AND relnamespace::regnamespace::text IN ('ingest', 'pii', 'analytics_v1')"
        ).fetchall()
        assert len(relations) > 40
        wrong = []
        for group, schemas in ALLOWED.items():
            for oid, schema, name, partition in relations:
                wanted = set() if partition else schemas[schema]
                wanted = wanted & {"SELECT"} if f"{schema}.{name}" in READ_ONLY else wanted
                has = {
                    right
                    for right in TABLES
                    if admin.execute("SELECT has_table_privilege(%s, %s::oid, %s)", [group, oid, right]).fetchone()
                    == (True,)
                }
                if has != wanted:
                    wrong.append(f"{group} on {schema}.{name}: {sorted(has)} instead of {sorted(wanted)}")
    assert wrong == []


@pytest.mark.proof(20)
def test_what_listens_is_known_and_on_loopback(stack: Stack) -> None:
    """Kafka's broker and controller, Postgres, Triton's gRPC and metrics: five ports, and no other."""
    found: set[tuple[str, int]] = set()
    for process in marked(stack.home):
        with suppress(psutil.NoSuchProcess):  # a backend of Postgres that ends just now
            found |= {
                (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
    assert {host for host, _ in found} == {"127.0.0.1"}
    assert len(found) == 5


@pytest.mark.proof(20)
def test_what_a_workers_client_may_not_ask_of_triton(stack: Stack) -> None:
    """Loading code, reading files through it, its memory, its logs: refused to whoever can reach the port."""
    client = InferenceServerClient(stack.endpoints["triton"])
    attempts = {
        "load": lambda: client.load_model("aspects"),
        "load with code": lambda: client.load_model(
            "mine", config='{"backend": "python"}', files={"file:1/model.py": b"import os"}
        ),
        "unload": lambda: client.unload_model("aspects"),
        "repository": lambda: client.get_model_repository_index(),
        "system shared memory": lambda: client.register_system_shared_memory("mine", "/mine", 64),
        "regions": lambda: client.get_system_shared_memory_status(),
        "regions away": lambda: client.unregister_system_shared_memory(),
        "CUDA shared memory": lambda: client.register_cuda_shared_memory("mine", b"x" * 64, 0, 64),
        "log to a file": lambda: client.update_log_settings({"log_file": "/tmp/mine", "log_verbose_level": 9}),
        "logs": lambda: client.get_log_settings(),
        "trace": lambda: client.update_trace_settings("aspects", {"trace_file": "/tmp/mine"}),
    }
    try:
        done = []
        for name, attempt in attempts.items():
            try:
                attempt()
            except InferenceServerException as err:
                if "UNAVAILABLE" in str(err.status()) and "restricted" in str(err.message()).lower():
                    continue
                done.append(f"{name}: {err}")
                continue
            done.append(name)
        assert done == []
        assert client.is_model_ready("aspects")
    finally:
        client.close()
