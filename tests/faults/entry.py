"""A worker as `python -m workers` starts it, but doomed: `python -m tests.faults.entry STAGE`.

FAULT_STEP names a step of workers.loop at which it ends itself with FAULT_SIGNAL (default KILL) at the FAULT_NTH time;
"5:commit" is inside COMMIT: sent, its answer never read. FAULT_TAKES names a file to which each delivery goes as a line
`partition first last`. FAULT_TOPICLESS: Kafka tells no topic while this worker assigns its group's partitions for the first time.
FAULT_TASKS names a file that holds how many asyncio tasks there were at the last batch.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer.group_coordinator import GroupCoordinator
from sqlalchemy.ext.asyncio import AsyncConnection

import workers.loop
from settings import load
from workers.log import configure
from workers.process import run_worker


def doom(step: str, nth: int, number: signal.Signals) -> Callable[[str], None]:
    """Ends this process when the step is reached for the nth time."""
    left = nth

    def on_step(now: str) -> None:
        nonlocal left
        if now == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

    return on_step


async def commit_and_die(connection: AsyncConnection) -> None:
    """COMMIT goes out; whether it came back nobody knows."""
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None
    raw.pgconn.send_query(b"COMMIT")
    while raw.pgconn.flush():
        pass
    on_step("5:commit")
    await connection.commit()


def before_takes(note: Callable[[Sequence[Any]], None]) -> None:
    """`note` sees each batch as faust hands it over, before anything is dropped."""
    whole = workers.loop.Loop.take

    async def take(self: Any, events: Sequence[Any], generation: int) -> None:
        note(events)
        await whole(self, events, generation)

    workers.loop.Loop.take = take  # type: ignore[method-assign]


def note_takes(path: str) -> None:
    def note(events: Sequence[Any]) -> None:
        places: dict[int, list[int]] = defaultdict(list)
        for event in events:
            places[event.message.partition].append(event.message.offset)
        with open(path, "a") as notes:
            notes.writelines(f"{partition} {min(all_)} {max(all_)}\n" for partition, all_ in places.items())

    before_takes(note)


def note_tasks(path: str) -> None:
    def note(events: Sequence[Any]) -> None:
        new = Path(path).with_suffix(".new")
        new.write_text(str(len(asyncio.all_tasks())))
        new.replace(path)  # whoever reads it finds a number, never an empty file

    before_takes(note)


def assign_without_topics() -> None:
    """As when a broker is just back: the group's leader sees no topic, and remembers that it saw none."""
    whole, told = GroupCoordinator._perform_assignment, ClusterMetadata.partitions_for_topic

    async def perform(self: Any, response: Any) -> Any:
        GroupCoordinator._perform_assignment = whole
        ClusterMetadata.partitions_for_topic = lambda self, topic: None
        try:
            return await whole(self, response)
        finally:
            ClusterMetadata.partitions_for_topic = told

    GroupCoordinator._perform_assignment = perform


if __name__ == "__main__":
    settings = load()
    configure(settings.log_level)
    if takes := os.environ.get("FAULT_TAKES"):
        note_takes(takes)
    if tasks := os.environ.get("FAULT_TASKS"):
        note_tasks(tasks)
    if os.environ.get("FAULT_TOPICLESS"):
        assign_without_topics()
    step, nth = os.environ.get("FAULT_STEP", ""), int(os.environ.get("FAULT_NTH", "1"))
    on_step = doom(step, nth, signal.Signals[f"SIG{os.environ.get('FAULT_SIGNAL', 'KILL')}"])
    if step == "5:commit":
        whole = workers.loop.commit

        async def nth_commit(connection: AsyncConnection) -> None:
            global nth
            nth -= 1
            await (commit_and_die(connection) if nth == 0 else whole(connection))

        workers.loop.commit = nth_commit
        on_step = doom(step, 1, signal.SIGKILL)
    sys.exit(run_worker(sys.argv[1], settings, on_step))
