"""The contract of every speech engine behind Triton: names, types, tasks, errors.

Client and model.py build and read requests and answers through this module, so they cannot drift apart. Only
numpy is imported. A tensor is an array here; each side wraps it in its own class.

    in   AUDIO FP32[n] (optional)   RATE INT32[1]   TASK STRING[1]   TEXT STRING[1] (optional)
         LANGUAGE STRING[1] (optional)   MAX_TOKENS INT32[1] (optional)
    out  TEXT FINISH_REASON MODEL VERSION STRING[1]   TOKENS_IN TOKENS_OUT INT32[1]   MEAN_LOGPROB INFER_MS FP32[1]

An engine that streams takes and gives more (EXTRA_INPUTS, EXTRA_OUTPUTS):

    in   STREAM INT32[1] (optional, 1: deltas come before the answer)
    out  DELTA STRING[1] and RESTART INT32[1] in the responses before the answer: text to append; RESTART 1: drop what came
         before first.  DETAILS STRING[1] in the answer: JSON, what only this engine can tell
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import Permanent

__all__ = [
    "BUSY_PREFIX",
    "EXTRA_INPUTS",
    "EXTRA_OUTPUTS",
    "INPUTS",
    "OUTPUTS",
    "Capabilities",
    "FinishReason",
    "InvalidRequest",
    "Refusal",
    "SpeechAnswer",
    "SpeechDelta",
    "SpeechRequest",
    "Task",
    "TensorSpec",
    "UnsupportedLanguage",
    "UnsupportedTask",
    "error_from",
    "error_text",
    "parse_answer",
    "parse_request",
]

#: How the error begins that a canary gets where others are answered.
BUSY_PREFIX = "busy: "

Tensors = dict[str, NDArray[Any]]


class Task(StrEnum):
    """What an engine may be asked for."""

    TRANSCRIBE = "transcribe"
    SUMMARIZE = "summarize"
    TRANSLATE = "translate"
    TRANSLATE_CHAIN = "translate_chain"  # writes the transcript first, then its translation
    GENERATE = "generate"


class FinishReason(StrEnum):
    """Why the text ends where it does."""

    STOP = "stop"
    LENGTH = "length"  # the token limit
    NO_SPEECH = "no_speech"  # the text is empty: nothing was said
    REPETITION = "repetition"  # the engine repeated itself in every window it tried
    LOOP = "loop"  # stopped while repeating itself, also after the audio was split
    CANCELLED = "cancelled"  # the caller no longer wants it; the text is what there was


class Refusal(Permanent):
    """What a model refuses; `prefix` is how its error's text begins."""

    code: str
    prefix: str

    def __init__(self, detail: str) -> None:
        super().__init__(self.code, detail)

    def __reduce__(self) -> tuple[type[Refusal], tuple[str]]:
        return type(self), (self.detail,)


class InvalidRequest(Refusal):
    """The request's input can never be worked on; see the detail."""

    code, prefix = "invalid_input", "invalid: "


class UnsupportedTask(Refusal):
    """The engine does not offer this task or language, though it knows its name: ask another engine."""

    code, prefix = "unsupported_task", "unimplemented: "


class UnsupportedLanguage(Refusal):
    """The text is in a language that the model does not know: only the sentiment models say it."""

    code, prefix = "unsupported_language", "unsupported_language: "


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One tensor: Triton's datatype name; every shape is [n] or [1]."""

    name: str
    datatype: str
    optional: bool = False

    @property
    def dtype(self) -> type[np.generic] | type[np.object_]:
        """Numpy's type for it; strings are object arrays of bytes."""
        return {"FP32": np.float32, "INT32": np.int32, "BYTES": np.object_}[self.datatype]


INPUTS = (
    TensorSpec(name="AUDIO", datatype="FP32", optional=True),
    TensorSpec(name="RATE", datatype="INT32"),
    TensorSpec(name="TASK", datatype="BYTES"),
    TensorSpec(name="TEXT", datatype="BYTES", optional=True),
    TensorSpec(name="LANGUAGE", datatype="BYTES", optional=True),
    TensorSpec(name="MAX_TOKENS", datatype="INT32", optional=True),
)
OUTPUTS = (
    TensorSpec(name="TEXT", datatype="BYTES"),
    TensorSpec(name="FINISH_REASON", datatype="BYTES"),
    TensorSpec(name="TOKENS_IN", datatype="INT32"),
    TensorSpec(name="TOKENS_OUT", datatype="INT32"),
    TensorSpec(name="MEAN_LOGPROB", datatype="FP32"),
    TensorSpec(name="INFER_MS", datatype="FP32"),
    TensorSpec(name="MODEL", datatype="BYTES"),
    TensorSpec(name="VERSION", datatype="BYTES"),
)
EXTRA_INPUTS = (TensorSpec(name="STREAM", datatype="INT32", optional=True),)
EXTRA_OUTPUTS = (
    TensorSpec(name="DETAILS", datatype="BYTES", optional=True),
    TensorSpec(name="DELTA", datatype="BYTES", optional=True),
    TensorSpec(name="RESTART", datatype="INT32", optional=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do; an unlisted task is answered with UnsupportedTask. No languages: it finds out itself."""

    engine: str
    tasks: frozenset[Task]
    languages: frozenset[str]
    max_audio_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpeechRequest:
    """One request. `audio` is float32 [n], -1..1, one channel at `rate` Hz; `language` an ISO 639-1 code.

    The language is that of the audio, or for the translations that of the result. `stream` asks for deltas.
    """

    task: Task
    audio: NDArray[np.float32] | None = None
    rate: int = 16_000
    text: str | None = None
    language: str | None = None
    max_tokens: int | None = None
    stream: bool = False

    def tensors(self) -> Tensors:
        """The request's tensors by name; absent optional ones are left out."""
        tensors: Tensors = {"RATE": _int(self.rate), "TASK": _string(self.task)}
        if self.audio is not None:
            tensors["AUDIO"] = np.ascontiguousarray(self.audio, dtype=np.float32)
        if self.text is not None:
            tensors["TEXT"] = _string(self.text)
        if self.language is not None:
            tensors["LANGUAGE"] = _string(self.language)
        if self.max_tokens is not None:
            tensors["MAX_TOKENS"] = _int(self.max_tokens)
        if self.stream:
            tensors["STREAM"] = _int(1)
        return tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechDelta:
    """A piece of an answer's text, whole characters. `restart`: first drop the text so far, the engine begins anew."""

    text: str
    restart: bool = False

    def tensors(self) -> Tensors:
        """The delta's tensors by name."""
        return {"DELTA": _string(self.text), "RESTART": _int(int(self.restart))}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechAnswer:
    """One answer. Tokens in: the window's encoder positions and the prompt. Mean log probability a token, <= 0."""

    text: str
    finish_reason: FinishReason
    tokens_in: int
    tokens_out: int
    mean_logprob: float
    infer_ms: float
    model: str
    version: str
    details: dict[str, Any] | None = None

    def tensors(self) -> Tensors:
        """The answer's tensors by name; DETAILS is left out where there are none."""
        details = {} if self.details is None else {"DETAILS": _string(json.dumps(self.details, ensure_ascii=False))}
        return details | {
            "TEXT": _string(self.text),
            "FINISH_REASON": _string(self.finish_reason),
            "TOKENS_IN": _int(self.tokens_in),
            "TOKENS_OUT": _int(self.tokens_out),
            "MEAN_LOGPROB": np.array([self.mean_logprob], dtype=np.float32),
            "INFER_MS": np.array([self.infer_ms], dtype=np.float32),
            "MODEL": _string(self.model),
            "VERSION": _string(self.version),
        }


def parse_request(tensors: Mapping[str, NDArray[Any]]) -> SpeechRequest:
    """The request in `tensors`; InvalidRequest for a wrong type, shape or value, also for a task that no engine has."""
    _check(tensors, INPUTS + EXTRA_INPUTS)
    name = _text(tensors["TASK"], "TASK")
    try:
        task = Task(name)
    except ValueError as err:
        raise InvalidRequest(f"unknown task: use {', '.join(Task)}") from err
    max_tokens = int(tensors["MAX_TOKENS"][0]) if "MAX_TOKENS" in tensors else None
    if max_tokens is not None and max_tokens < 1:
        raise InvalidRequest("MAX_TOKENS must be at least 1")
    return SpeechRequest(
        task=task,
        audio=tensors.get("AUDIO"),
        rate=int(tensors["RATE"][0]),
        text=_text(tensors["TEXT"], "TEXT") if "TEXT" in tensors else None,
        language=_text(tensors["LANGUAGE"], "LANGUAGE") if "LANGUAGE" in tensors else None,
        max_tokens=max_tokens,
        stream="STREAM" in tensors and bool(tensors["STREAM"][0]),
    )


def parse_answer(tensors: Mapping[str, NDArray[Any]]) -> SpeechAnswer:
    """The answer in `tensors`; ValueError where the server's tensors are not the contract's (numpy 2 in its environment?)."""
    try:
        _check(tensors, OUTPUTS + EXTRA_OUTPUTS)
        return SpeechAnswer(
            text=_text(tensors["TEXT"], "TEXT"),
            finish_reason=FinishReason(_text(tensors["FINISH_REASON"], "FINISH_REASON")),
            tokens_in=int(tensors["TOKENS_IN"][0]),
            tokens_out=int(tensors["TOKENS_OUT"][0]),
            mean_logprob=float(tensors["MEAN_LOGPROB"][0]),
            infer_ms=float(tensors["INFER_MS"][0]),
            model=_text(tensors["MODEL"], "MODEL"),
            version=_text(tensors["VERSION"], "VERSION"),
            details=json.loads(_text(tensors["DETAILS"], "DETAILS")) if "DETAILS" in tensors else None,
        )
    except InvalidRequest as err:
        raise ValueError(f"the speech model's answer breaks the contract: {err.detail}") from err


def error_text(error: Permanent) -> str:
    """What a model answers for `error`: the prefix that `error_from` knows, then the detail."""
    prefix = error.prefix if isinstance(error, Refusal) else InvalidRequest.prefix
    return prefix + error.detail


def error_from(message: str) -> Refusal | None:
    """The error that a model's message stands for; None if it is none of the contract's (then it may pass)."""
    for kind in (UnsupportedLanguage, InvalidRequest, UnsupportedTask):
        before, found, detail = message.partition(kind.prefix)
        # The server may put its own words before ours, never in the middle of a sentence.
        if found and (not before or before.endswith((" ", ":", "\n"))):
            return kind(detail)
    return None


def _check(tensors: Mapping[str, NDArray[Any]], specs: tuple[TensorSpec, ...]) -> None:
    for spec in specs:
        array = tensors.get(spec.name)
        if array is None:
            if not spec.optional:
                raise InvalidRequest(f"{spec.name} is missing")
        elif array.dtype != spec.dtype:
            raise InvalidRequest(f"{spec.name} must be {spec.datatype}, not {array.dtype}")
        elif array.ndim != 1 or (spec.name != "AUDIO" and len(array) != 1):
            raise InvalidRequest(f"{spec.name} must have the shape [{'n' if spec.name == 'AUDIO' else 1}]")


def _string(text: str) -> NDArray[Any]:
    return np.array([text.encode()], dtype=np.object_)


def _int(value: int) -> NDArray[Any]:
    return np.array([value], dtype=np.int32)


def _text(array: NDArray[Any], name: str) -> str:
    value = array[0]
    if isinstance(value, str):
        return value
    try:
        return bytes(value).decode()
    except (TypeError, UnicodeDecodeError) as err:
        raise InvalidRequest(f"{name} is not UTF-8 text") from err
