"""A worker that is to end does so, whatever does not let go: a stop that takes too long is cut off."""

from __future__ import annotations

import subprocess
import sys

import pytest

DEAF = """
import asyncio, sys
from workers import process
from settings import Settings

async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

class Worker(process.Worker):
    async def _start(self, resources, tasks):
        if sys.argv[1] == "task":
            tasks.append(asyncio.create_task(deaf()))
        if sys.argv[1] == "resource":
            resources.push_async_callback(deaf)
        await asyncio.sleep(0)
        self._end(process.NOPERM)

process.STOP_SECONDS = 0.5
sys.exit(asyncio.run(Worker("reviewer", Settings(), print).run()))
"""


@pytest.mark.parametrize(("who", "code"), [("nobody", 77), ("task", 75), ("resource", 75)])
def test_what_does_not_let_go_is_left_behind(who: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", DEAF, who], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert ("worker.stop_timeout" in done.stdout + done.stderr) == (code == 75)
