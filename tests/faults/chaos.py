"""Pipelines whose workers die and come back, and runs without faults to compare them with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from kafka import KafkaAdminClient

from stack.stack import Stack
from store.runs import CUT_RUN
from tests.faults.load import Item, Load, Manifest
from tests.faults.oracle import content, difference, examine
from tests.faults.results import Figures
from tests.workers.pipeline import STAGES, Pipeline
from tests.workers.worker import Worker

__all__ = ["ENTRY", "LAG_SECONDS", "Chaos", "kill_server", "undisturbed"]

ENTRY = "tests.faults.entry"
#: How a worker may end: killed, or EX_TEMPFAIL (start me again). Anything else is a defect.
ALLOWED = {-signal.SIGKILL, 75}
#: So long after the last fault, and the last record, nothing may be left to do.
LAG_SECONDS = 60.0


class Chaos(Pipeline):
    """A pipeline that starts again what died, as a supervisor does, whenever it is looked after."""

    def __init__(self, stack: Stack, *, partitions: int = 3, **settings: object) -> None:
        # Records of a call may be minutes apart in a long test: the reaper would rightly close it as silent.
        super().__init__(stack, partitions=partitions, **{"call_silence_timeout_seconds": 3_600, **settings})
        self.expects_deaths = True
        self.manifest = Manifest()
        self.exits: list[tuple[str, int]] = []
        self._dooms: dict[str, list[dict[str, str]]] = {}
        self._lag_seconds: float | None = None  # from the last disturbance until nothing was left to do
        self.disturbed()

    def disturbed(self) -> None:
        """A fault ends now. Records sent and workers that died are noticed without it."""
        self._disturbed, self._lag_seconds = time.monotonic(), None

    def doomed(self, stage: str, dooms: Sequence[dict[str, str]], number: int = 0, **settings: object) -> Worker:
        """A worker that meets each of these fates, one life after the other, and then lives on."""
        made = self.worker(stage, number, module=ENTRY, env=dooms[0], **settings)
        self._dooms[made.name] = list(dooms)
        return made

    def send(self, items: list[Item]) -> None:
        self.manifest.add(items, self.produce([item.message for item in items]))
        self.disturbed()

    def tend(self) -> None:
        """Start again what ended."""
        for worker in self.workers:
            code = worker.returncode
            if code is None:
                continue
            self.exits.append((worker.name, code))
            self.disturbed()
            fates = self._dooms.get(worker.name, [])
            # One that left by itself has its death still before it; one that was stopped has met its fate.
            if fates and (code == -signal.SIGKILL or "FAULT_SIGNAL" in fates[0]):
                del fates[0]
            worker.start(**(fates[0] if fates else {"FAULT_STEP": ""}))

    def strike(self, worker: Worker) -> None:
        """SIGKILL. Who left by itself in that very moment is started again, and struck then."""
        while True:
            self.tend()
            worker.kill()
            self.wait(lambda: worker.returncode is not None, "the end of a killed worker")
            if worker.returncode == -signal.SIGKILL:
                return

    def unmet(self) -> int:
        """Fates that no worker has met yet."""
        return sum(len(fates) for fates in self._dooms.values())

    def settled(self) -> bool:
        self.tend()
        done = super().settled()
        if not done:
            self._lag_seconds = None
        elif self._lag_seconds is None:
            self._lag_seconds = time.monotonic() - self._disturbed
        return done

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

    def acknowledged(self, stages: Sequence[str] = STAGES) -> dict[tuple[str, int], int]:
        """What Kafka believes to be done, by stage and partition."""
        groups = {
            f"{self.topics.prefix}earful.{stage}.{CUT_RUN if stage == 'segmenter' else self.run_id}": stage
            for stage in stages
        }
        admin = KafkaAdminClient(bootstrap_servers=self.stack.endpoints["kafka"])
        try:
            return {
                (groups[group], place.partition): one.offset
                for group, found in admin.list_group_offsets(list(groups)).items()
                for place, one in found.items()
            }
        finally:
            admin.close()

    def verify(
        self,
        figures: Figures,
        load: Load | str,
        faults: str,
        expected: list[str] | None = None,
        *,
        seed: int | None = None,
        kafka: bool = True,
        ids_rise: bool = True,
        lag_seconds: float = LAG_SECONDS,
        **seen: object,
    ) -> None:
        """Asks the oracle, notes its figures, and fails unless the faults have left no trace.

        `expected`: the content of the same load without faults. A `load` names its own seed. `kafka`, `ids_rise`: see
        `examine`. `lag_seconds`: more where what was sent is more than a minute's work. `seen`: what else the table shall say.
        """
        self.wait(self.settled, "everything is done", lag_seconds)
        taken = self._lag_seconds
        assert taken is not None
        found = examine(self, self.manifest, kafka=kafka, ids_rise=ids_rise)
        figures.oracle(found)
        figures.note(load=str(load), faults=faults, seed=load.seed if isinstance(load, Load) else seed, **seen)
        figures.note(lag_0_after_seconds=round(taken, 1))
        assert found.clean, found
        if expected is not None:
            other = difference(content(self), expected)
            assert not other, other[:10]
        assert not self.bad_exits(), self.why()
        assert taken < lag_seconds, f"lag 0 only {taken:.0f} s after the last fault"


def undisturbed(
    stack: Stack, load: Load, stages: Sequence[str] = STAGES, *, partitions: int = 3, seconds: float = 150
) -> list[str]:
    """Content of a load worked off without a fault; the oracle finds nothing wrong with it."""
    with Chaos(stack, partitions=partitions) as p:
        p.expects_deaths = False
        p.start(stages)
        p.send(load.items(p.topics))
        p.wait_until_settled(seconds)
        found = examine(p, p.manifest)
        assert found.clean, found
        return content(p)


def kill_server(stack: Stack, name: str) -> None:
    """SIGKILL a server, then start it again; returns when it is healthy."""
    server = next(one for one in stack.servers if one.name == name)
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    server.stop()  # reaps it, and ends what it left
    server.start()
