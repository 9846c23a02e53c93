"""Pipelines whose workers die and come back, and runs without faults to compare them with."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence

from stack.stack import Stack
from tests.faults.load import Item, Load, Manifest
from tests.workers.pipeline import STAGES, Pipeline, Worker

__all__ = ["ENTRY", "Chaos", "kill_server", "undisturbed"]

ENTRY = "tests.faults.entry"
#: How a worker may end: killed, or EX_TEMPFAIL (start me again). Anything else is a defect.
ALLOWED = {-signal.SIGKILL, 75}


class Chaos(Pipeline):
    """A pipeline that starts again what died, as a supervisor does, whenever it is looked after."""

    def __init__(self, stack: Stack, *, partitions: int = 3, **settings: object) -> None:
        super().__init__(stack, partitions=partitions, **settings)
        self.expects_deaths = True
        self.manifest = Manifest()
        self.exits: list[tuple[str, int]] = []
        self._dooms: dict[str, list[dict[str, str]]] = {}

    def doomed(self, stage: str, dooms: Sequence[dict[str, str]], number: int = 0, **settings: object) -> Worker:
        """A worker that meets each of these fates, one life after the other, and then lives on."""
        first, *rest = dooms
        made = self.worker(stage, number, module=ENTRY, env=first, **settings)
        self._dooms[made.name] = rest
        return made

    def send(self, items: list[Item]) -> None:
        self.manifest.add(items, self.produce([item.message for item in items]))

    def tend(self) -> None:
        """Start again what ended."""
        for worker in self.workers:
            code = worker.returncode
            if code is None:
                continue
            self.exits.append((worker.name, code))
            fates = self._dooms.get(worker.name, [])
            worker.start(**(fates.pop(0) if fates else {"FAULT_STEP": ""}))

    def unmet(self) -> int:
        """Fates that no worker has met yet."""
        return sum(len(fates) for fates in self._dooms.values())

    def settled(self) -> bool:
        self.tend()
        return super().settled()

    def why(self) -> str:
        """What workers that left said of the reason."""
        lines = [
            line[:3_000] for worker in self.workers for line in worker.log.read_text(errors="replace").splitlines()
        ]
        return "\n".join(
            [str(self.exits), *(line for line in lines if "batch.failed" in line or "worker.leaves" in line)]
        )

    def bad_exits(self) -> list[tuple[str, int]]:
        return [(name, code) for name, code in self.exits if code not in ALLOWED]


def undisturbed(
    stack: Stack, load: Load, stages: Sequence[str] = STAGES, *, partitions: int = 3, seconds: float = 150
) -> Iterator[Chaos]:
    """A load worked off without a fault."""
    with Chaos(stack, partitions=partitions) as p:
        p.expects_deaths = False
        p.start(stages)
        p.send(load.items(p.topics))
        p.wait_until_settled(seconds)
        yield p


def kill_server(stack: Stack, name: str) -> None:
    """SIGKILL a server, then start it again; returns when it is healthy."""
    server = next(one for one in stack.servers if one.name == name)
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    server.stop()  # reaps it, and ends what it left
    server.start()
