"""Test 9, answers: what no healthy model says is tried again, never a result; each output in each way it can be wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from errors import Transient
from stack.stack import Stack
from tests.faults.ills import ailing
from workers.deadline import Deadline
from workers.inference import AspectSpan, Inference

TEXT = "The battery is great."
SPAN = AspectSpan(start=4, end=11, confidence=0.9, aspect_id="battery")
OUTPUTS = {
    "aspects": {"COUNT": "i", "START": "i", "END": "i", "CONFIDENCE": "f", "ASPECT_ID": "O", "VERSION": "O"},
    "cvib": {"PROBABILITIES": "f", "VERSION": "O"},
    "whisper": {
        "TEXT": "O", "FINISH_REASON": "O", "TOKENS_IN": "i", "TOKENS_OUT": "i", "MEAN_LOGPROB": "f", "INFER_MS": "f",
        "MODEL": "O", "VERSION": "O",
    },
}  # fmt: skip
WRONG = [
    (model, output, what)
    for model, outputs in OUTPUTS.items()
    for output, kind in outputs.items()
    for what in ("drop", "empty", "flat", "nan")
    if what != "nan" or kind == "f"
]


@pytest_asyncio.fixture
async def inference(stack: Stack) -> AsyncIterator[Inference]:
    made = Inference(stack.endpoints["triton"])
    yield made
    await made.close()


async def ask(inference: Inference, model: str) -> object:
    deadline = Deadline.after(10)
    if model == "aspects":
        return await inference.aspects(TEXT, deadline)
    if model == "cvib":
        return await inference.polarities(TEXT, [SPAN], deadline)
    return await inference.transcribe(np.ones(800, np.float32), 16_000, deadline)


@pytest.mark.proof(9)
@pytest.mark.parametrize(("model", "output", "what"), WRONG, ids=lambda one: one)
async def test_a_wrong_answer_is_no_result(
    stack: Stack, inference: Inference, model: str, output: str, what: str
) -> None:
    with ailing(stack.home, model, what, output=output):
        with pytest.raises(Transient):
            await ask(inference, model)
        assert not await inference.canary([model])
    await ask(inference, model)
    assert await inference.canary([model])
