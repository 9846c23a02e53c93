"""EARFUL_INFLIGHT_REQUESTS bounds what one worker asks Triton for at once; its canary does not wait in that queue."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from errors import Transient
from stack.stack import Stack
from workers.deadline import Deadline
from workers.inference import Inference, Turn


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


async def test_only_the_watchdogs_question_goes_before_what_waits_in_triton(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's waits as records do: a long queue must not speak against them. What is busy is well."""
    inference, said = Inference(stack.endpoints["triton"]), list[bool]()
    real = inference._asking.infer

    async def seen(*arguments: Any, canary: bool, **more: Any) -> Any:
        said.append(canary)
        return await real(*arguments, canary=canary, **more)

    async def busy(*arguments: Any, **more: Any) -> Any:
        raise InferenceServerException("busy: the engine works on what came before", status="StatusCode.UNAVAILABLE")

    try:
        monkeypatch.setattr(inference._asking, "infer", seen)
        assert await inference.canary(["whisper", "aspects", "cvib"])
        assert await inference.canary(["whisper", "aspects", "cvib"], turn=Turn.FIRST)
        assert said == [False] * 3 + [True] * 3
        monkeypatch.setattr(inference._asking, "infer", busy)
        assert await inference.canary(["whisper"], turn=Turn.FIRST)
        with pytest.raises(Transient):
            await inference.transcribe(np.full(8_000, 0.1, np.float32), 8_000, Deadline.after(30))
    finally:
        await inference.close()
