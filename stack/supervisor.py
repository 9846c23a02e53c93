"""Keeps the stack and its workers running: watches, restarts, reports, and stops everything when told.

    python -m stack.supervisor --home DIR      reads DIR/plan.json (a Plan), writes DIR/status.json

Servers are asked for real work (metadata, a query, a canary per model); two misses in a row, or a dead process, mean
a restart. Workers have a watchdog of their own and leave by themselves when they make no progress, so for them being
alive is enough. The pause before a restart doubles up to 30 s and starts anew after 30 s of health.
SIGTERM stops all. After a kill -9 of the supervisor, the next start (or `clean`) ends what it left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psutil

from stack.home import write_json
from stack.pause import Pause
from stack.plan import Plan
from stack.process import MARK, Child, OfOneChild, StackError, end, marked
from stack.stack import Server, Stack

__all__ = ["Supervisor"]

_LOG = logging.getLogger("stack")
_CHECK_SECONDS = 2.0
_MISSES = 2
_PREPARE_SECONDS = 300.0
_POLL_SECONDS = 0.5
_START_SECONDS = 6.0  # a start in progress when all is stopped is given so long
# A worker finishes the batch in hand on SIGTERM; longer than that and it is killed, which is harmless by design.
_WORKER_PATIENCE_SECONDS = 15.0
_LOG_LIMIT_BYTES = 20 << 20


class Worker(OfOneChild):
    """A worker process as the supervisor sees it: healthy while it is alive."""

    check_seconds = 1.0

    def __init__(self, name: str, command: list[str], stack: Stack, env: dict[str, str]) -> None:
        self.name = name
        self._command = command
        self._stack = stack
        self._env = env
        self._child = Child(name, home=stack.home, patience_seconds=_WORKER_PATIENCE_SECONDS)

    def start(self) -> None:
        """Starts it with the endpoints as they are now, in our folder: what reads `.env` there reads the caller's."""
        self._child.start(self._command, env=environment(self._env, self._stack), cwd=Path())

    def stop(self) -> None:
        """TERM, then KILL after 15 s."""
        self._child.stop()

    def healthy(self) -> bool:
        """Whether it is alive."""
        return self._child.pid is not None


class Supervisor:
    """Runs a Plan in one home until told to stop. One thread watches each server and each worker."""

    def __init__(self, home: Path, plan: Plan) -> None:
        self._stack = Stack(home, model_repositories=[Path(path) for path in plan.model_repositories])
        self._plan = plan
        self._workers = [Worker(name, command, self._stack, plan.env) for name, command in plan.workers.items()]
        self._stopping = threading.Event()
        self._prepared = threading.Event()  # servers and topics, or that has failed
        self._lock = threading.Lock()
        self._state = "starting"
        self._error: str | None = None
        self._units: dict[str, dict[str, object]] = {}
        self._watchers: dict[str, threading.Thread] = {}
        self._order = [server.name for server in self._stack.servers] + [worker.name for worker in self._workers]

    def stop(self) -> None:
        """Asks run() to stop everything and return. Safe in a signal handler and from any thread."""
        self._stopping.set()

    def run(self) -> int:
        """Starts everything, watches it until stop(), stops it. The exit code: 1 if the start failed."""
        try:
            self._stack.own()
        except StackError as err:
            _LOG.error("%s", err)  # another owner's home: its status.json is not ours to write
            return 1
        self._write()  # without this one nobody would find us to stop us
        threading.Thread(target=self._keep_logs_short, name="logs", daemon=True).start()
        try:
            self._start_servers_and_prepare()
            if not self._stopping.is_set():
                for worker in self._workers:
                    worker.start()
                    self._report(worker, "healthy", restarts=0)
                for unit in (*self._stack.servers, *self._workers):
                    self._watchers[unit.name] = threading.Thread(target=self._watch, args=(unit,), name=unit.name)
                    self._watchers[unit.name].start()
                self._report_state("ready")
            self._stopping.wait()
        except Exception as err:  # noqa: BLE001 - told to whoever waits for the start, and everything is stopped
            if not self._stopping.is_set():  # else it is what stopping does to a start
                _LOG.error("%s", err)
                self._error = str(err) or repr(err)
        finally:
            self._stopping.set()
            self._report_state("stopping", self._error)
            # The workers first: what they have in hand may need every server, however long its check takes.
            for worker in self._workers:
                self._join(worker)
            if self._workers:
                with ThreadPoolExecutor(len(self._workers)) as pool:
                    list(pool.map(Worker.stop, self._workers))
            for server in self._stack.servers:
                self._join(server)
            self._stack.stop()
            self._units.clear()
            self._report_state("failed" if self._error else "stopped", self._error)
        return 1 if self._error else 0

    def _keep_logs_short(self) -> None:
        """A log over 20 MB, also our own, becomes NAME.log.1 in place of an older one.

        By copying: who writes it holds it open, to append. What is written between copy and cut is lost: a line or two.
        """
        while True:
            for log in (self._stack.home / "logs").glob("*.log"):
                with contextlib.suppress(OSError):  # a full disk, say: the next look tries again
                    if log.stat().st_size > _LOG_LIMIT_BYTES:
                        shutil.copyfile(log, log.with_suffix(".log.1"))
                        os.truncate(log, 0)
            if self._stopping.wait(_CHECK_SECONDS):
                return

    def _start_servers_and_prepare(self) -> None:
        threading.Thread(target=self._cut_off, name="cut-off", daemon=True).start()
        try:
            self._stack.start()
            for server in self._stack.servers:
                self._report(server, "healthy", restarts=0)
            self._prepare()
        finally:
            self._prepared.set()

    def _cut_off(self) -> None:
        """Who tells us to stop meanwhile does not wait for it: a start may take minutes, and so may a migration."""
        self._stopping.wait()
        while not self._prepared.wait(_POLL_SECONDS):
            self._stack.cut_off()
            end(marked(self._stack.home, "prepare"))

    def _join(self, unit: Server) -> None:
        """Waits until nobody watches the unit any more: a check takes its time, a start is cut off."""
        watcher = self._watchers.get(unit.name)
        if watcher is None:
            return
        watcher.join(_START_SECONDS if self._units[unit.name]["state"] == "restarting" else unit.check_seconds)
        while watcher.is_alive():
            end(marked(self._stack.home, unit.name))
            watcher.join(1)

    def _prepare(self) -> None:
        """Runs the plan's one-shot commands (migrations, topics) in order, before any worker starts."""
        log = self._stack.home / "logs" / "prepare.log"
        for command in self._plan.prepare:
            if self._stopping.is_set():
                return
            env = environment(self._plan.env, self._stack) | {MARK: f"{self._stack.home}:prepare"}
            try:
                with log.open("ab") as file:
                    done = subprocess.run(
                        command, env=env, stdout=file, stderr=subprocess.STDOUT, timeout=_PREPARE_SECONDS, check=False
                    )
            except subprocess.TimeoutExpired as err:
                raise StackError(f"`{' '.join(command)}` took more than {_PREPARE_SECONDS:g} s; see {log}") from err
            if done.returncode != 0:
                lines = log.read_text(errors="replace").splitlines()[-15:]
                text = "\n".join(lines)
                raise StackError(f"`{' '.join(command)}` ended with {done.returncode}; the end of {log}:\n{text}")

    def _watch(self, unit: Server) -> None:
        restarts, misses, pause, failed = 0, 0, Pause(), ""
        pause.started()
        while not self._stopping.wait(_CHECK_SECONDS):
            if unit.pid is not None and _healthy(unit):
                if misses:
                    self._report(unit, "healthy", restarts=restarts)
                misses, failed = 0, ""
                continue
            misses += 1
            if unit.pid is not None and misses < _MISSES:
                self._report(unit, "failing", restarts=restarts)
                continue
            why = failed or (f"died ({unit.ending})" if unit.pid is None else "failed its health check")
            seconds = pause.failed()
            self._report(unit, "restarting", restarts=restarts, error=why)
            _LOG.warning("%s: %s; restarting in %g s", unit.name, why, seconds)
            try:
                unit.stop()
                if self._stopping.wait(seconds):
                    return
                restarts += 1
                self._start_again(unit)
            except Exception as err:  # noqa: BLE001 - whatever it was, trying again is this loop's work
                _LOG.error("%s did not start: %s", unit.name, err if isinstance(err, StackError) else repr(err))
                failed = str(err).partition("\n")[0] or repr(err)
                self._report(unit, "failing", restarts=restarts, error=failed)
                misses = _MISSES
                continue
            misses, failed = 0, ""
            pause.started()
            self._report(unit, "healthy", restarts=restarts)

    def _start_again(self, unit: Server) -> None:
        before = self._stack.endpoints
        unit.start()
        if self._stack.endpoints == before:
            return
        # Somebody took the port meanwhile: whoever was told the old address must learn the new one.
        write_json(self._stack.home / "endpoints.json", self._stack.endpoints)
        for worker in self._workers:
            pid = worker.pid  # read once: it may be gone in a moment, and psutil takes None for this process
            if pid is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).terminate()  # its watcher starts it with the new address

    def _report(self, unit: Server, state: str, *, restarts: int, error: str | None = None) -> None:
        entry: dict[str, object] = {
            "state": state,
            "pid": unit.pid,
            "restarts": restarts,
            "since": _now(),
            "error": error,
        }
        with self._lock:
            self._units[unit.name] = entry
            self._try_to_write()

    def _report_state(self, state: str, error: str | None = None) -> None:
        with self._lock:
            self._state, self._error = state, error
            self._try_to_write()

    def _try_to_write(self) -> None:
        try:
            self._write()
        except OSError as err:  # a full disk, say: the next report tries again, and the watch goes on
            _LOG.error("status.json was not written: %s", err)

    def _write(self) -> None:
        units = {name: self._units[name] for name in self._order if name in self._units}
        status = {
            "state": self._state,
            "error": self._error,
            "supervisor": {"pid": os.getpid(), "started": psutil.Process().create_time()},
            "units": units,
        }
        write_json(self._stack.home / "status.json", status)


def _healthy(unit: Server) -> bool:
    try:
        return unit.healthy()
    except Exception as err:  # noqa: BLE001 - a check that breaks is a miss, and the watch goes on
        _LOG.error("%s: the health check raised %r", unit.name, err)
        return False


def environment(extra: dict[str, str], stack: Stack) -> dict[str, str]:
    """This process's environment plus `extra`, in which {kafka}, {postgres_url}, ... stand for the endpoints."""
    return {**os.environ, **{key: value.format_map(stack.endpoints) for key, value in extra.items()}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def main() -> int:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m stack.supervisor", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder of the stack, with plan.json")
    home = parser.parse_args().home.resolve()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kafka").setLevel("CRITICAL")  # its complaints about a broker that is away are ours to make
    supervisor = Supervisor(home, Plan(**json.loads((home / "plan.json").read_text())))
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: supervisor.stop())
    return supervisor.run()


if __name__ == "__main__":
    raise SystemExit(main())
