"""EARFUL_INFLIGHT_REQUESTS bounds what one worker asks Triton for at once; its canary does not wait in that queue."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from stack.stack import Stack
from workers.deadline import Deadline
from workers.inference import Inference


async def test_no_more_requests_are_in_flight_than_may_be(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    inference = Inference(stack.endpoints["triton"], inflight=2)
    real, now, seen = inference._asking.infer, 0, list[int]()

    async def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal now
        now += 1
        seen.append(now)
        try:
            return await real(*arguments, **more)
        finally:
            now -= 1

    monkeypatch.setattr(inference._asking, "infer", counted)
    sound, soon = np.full(8_000, 0.1, np.float32), Deadline.after(30)
    try:
        found = await asyncio.gather(*(inference.transcribe(sound, 8_000, soon) for _ in range(8)))
        assert (len(found), len(seen), max(seen)) == (8, 8, 2)
        async with asyncio.timeout(30), inference._inflight, inference._inflight:
            assert await inference.canary(["whisper", "aspects", "cvib"])
    finally:
        await inference.close()
