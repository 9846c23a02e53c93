"""Free loopback ports, chosen once and remembered, so that a restart keeps every address."""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path

from stack.home import read_json, write_json

__all__ = ["Ports"]

# Below the range from which Linux takes the ports of outgoing connections (32768 and up): a port of ours
# must still be free after a restart.
_RANGE = range(20_000, 32_000)


class Ports:
    """The ports of one stack by name, kept in home/ports.json. Thread safe."""

    def __init__(self, home: Path) -> None:
        self._path = home / "ports.json"
        self._lock = threading.Lock()
        try:
            known = read_json(self._path) or {}
        except ValueError:  # what is lost is an address that stays, not the start
            known = {}
        self._ports: dict[str, int] = {name: port for name, port in known.items() if port in _RANGE}

    def __getitem__(self, name: str) -> int:
        return self._ports[name]

    def choose(self, *names: str) -> None:
        """Makes sure that each name has a port that is free now: the remembered one where possible."""
        with self._lock:
            for name in names:
                port = self._ports.get(name)
                taken = set(self._ports.values())
                while port is None or not _is_free(port):
                    port = random.choice([port for port in _RANGE if port not in taken])
                    taken.add(port)
                self._ports[name] = port
            write_json(self._path, self._ports)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
