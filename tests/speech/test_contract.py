"""Requests and answers survive the way to Triton and back; what is wrong is refused with a prefix."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import Permanent
from speech.contract import (
    EXTRA_INPUTS,
    INPUTS,
    OUTPUTS,
    FinishReason,
    InvalidRequest,
    SpeechAnswer,
    SpeechDelta,
    SpeechRequest,
    Task,
    UnsupportedLanguage,
    UnsupportedTask,
    error_from,
    error_text,
    parse_answer,
    parse_request,
)

GOOD = SpeechRequest(task=Task.TRANSCRIBE, audio=np.zeros(100, np.float32), rate=8_000, language="en", max_tokens=9)


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, speech.contract; print(sorted({'onnxruntime','ctranslate2','av','torch','soxr'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(
    task=st.sampled_from(Task),
    rate=st.integers(8_000, 48_000),
    text=st.none() | st.text(),
    language=st.none() | st.sampled_from(("en", "de")),
    max_tokens=st.none() | st.integers(1, 4_096),
    stream=st.booleans(),
)
def test_a_request_survives(
    task: Task, rate: int, text: str | None, language: str | None, max_tokens: int | None, stream: bool
) -> None:
    request = SpeechRequest(task=task, rate=rate, text=text, language=language, max_tokens=max_tokens, stream=stream)
    back = parse_request(request.tensors())
    assert (back.task, back.rate, back.text, back.language, back.max_tokens) == (task, rate, text, language, max_tokens)
    assert back.stream == stream
    known = INPUTS + EXTRA_INPUTS if stream else INPUTS
    assert set(request.tensors()) <= {spec.name for spec in known}


@given(text=st.text(), reason=st.sampled_from(FinishReason), tokens=st.integers(0, 500))
def test_an_answer_survives(text: str, reason: FinishReason, tokens: int) -> None:
    answer = SpeechAnswer(
        text=text,
        finish_reason=reason,
        tokens_in=750,
        tokens_out=tokens,
        mean_logprob=-0.5,
        infer_ms=12.5,
        model="whisper",
        version="v",
    )
    assert parse_answer(answer.tensors()) == answer
    assert set(answer.tensors()) == {spec.name for spec in OUTPUTS}
    detailed = replace(answer, details={"splits": 1, "text": text})
    assert parse_answer(detailed.tensors()) == detailed


def test_a_delta_is_told_from_an_answer() -> None:
    tensors = SpeechDelta(text="né", restart=True).tensors()
    assert (tensors["DELTA"][0].decode(), int(tensors["RESTART"][0])) == ("né", 1)
    assert not {spec.name for spec in OUTPUTS} & set(tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"AUDIO": np.zeros(4, np.int16)}, "AUDIO must be FP32"),
        ({"AUDIO": np.zeros((1, 4), np.float32)}, "AUDIO must have the shape"),
        ({"RATE": None}, "RATE is missing"),
        ({"RATE": np.zeros(2, np.int32)}, r"RATE must have the shape \[1\]"),
        ({"LANGUAGE": np.array([b"\xff"], np.object_)}, "LANGUAGE is not UTF-8"),
        ({"MAX_TOKENS": np.zeros(1, np.int32)}, "MAX_TOKENS must be at least 1"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(change: dict[str, Any], message: str) -> None:
    tensors = {name: array for name, array in (GOOD.tensors() | change).items() if array is not None}
    with pytest.raises(InvalidRequest, match=message):
        parse_request(tensors)


def test_a_task_that_no_engine_has_is_invalid() -> None:
    """Unimplemented is a task of the contract that this engine lacks: another one may have it."""
    with pytest.raises(InvalidRequest, match="unknown task: use transcribe, "):
        parse_request(GOOD.tensors() | {"TASK": np.array([b"sing"], np.object_)})


def test_an_answer_that_lost_its_content_is_noticed() -> None:
    with pytest.raises(ValueError, match="breaks the contract"):
        parse_answer({"TEXT": np.zeros(0, np.object_)})


@pytest.mark.parametrize(
    "error", [InvalidRequest("too long"), UnsupportedTask("no singing"), UnsupportedLanguage("it looks German")]
)
def test_errors_travel_as_text_and_as_pickles(error: Permanent) -> None:
    for message in (error_text(error), f"in request 7: {error_text(error)}"):
        back = error_from(message)
        assert type(back) is type(error)
        assert back is not None
        assert back.detail == error.detail
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (copy.reason, copy.detail) == (error.reason, error.detail)
    assert error_from("the server ran out of memory") is None
