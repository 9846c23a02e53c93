"""The workers' client of Triton: one reused gRPC channel, names and shapes checked, errors sorted into the two kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import islice
from time import perf_counter
from typing import Any, Literal

import numpy as np
import tritonclient.grpc.aio as triton
from grpc import StatusCode
from tritonclient.utils import InferenceServerException

from errors import EarfulError, Permanent, Transient
from speech.contract import (
    BUSY_PREFIX,
    OUTPUTS,
    SpeechAnswer,
    SpeechRequest,
    Task,
    error_from,
    parse_answer,
)
from workers.asking import Asking
from workers.bundle import Bundle
from workers.deadline import Deadline
from workers.metrics import INFERENCE_SECONDS, INFERENCES

__all__ = ["AspectSpan", "Inference", "OtherModel", "Polarity", "Transcript", "Turn"]

SPEECH_OUTPUTS = tuple(spec.name for spec in OUTPUTS)
#: Speech models that summarize a transcript as JSON with evidence.
SUMMARIZING = frozenset({"phi4"})

#: A request to the sentiment models: so many texts take Triton's own work from a tenth of their time to a fiftieth.
#: Of more than one text at most so many characters and spans, half a second's work: none waits long for its neighbours.
MOST_TEXTS, MOST_CHARACTERS, MOST_SPANS = 8, 4_000, 64

#: Any model answers so little within a tenth of a second once it has begun. Phi-4 says after five that it is at work on others.
CANARY_TEXT, CANARY_SECONDS = "The battery is great.", 8.0
#: There may be a backlog to wait for.
VERSION_SECONDS = 300.0
#: Half a second of a tone: an engine may answer silence without its model.
CANARY_AUDIO = (0.1 * np.sin(np.arange(8_000) * (2 * np.pi * 220 / 16_000))).astype(np.float32)

Array = np.ndarray[Any, Any]


class Turn(Enum):
    """Whom a request goes before."""

    LAST = "last"
    BEFORE_OURS = "before_ours"  # which wait for a place among this worker's requests in flight
    FIRST = "first"  # also before what waits in Triton, where the model's queue has priorities


class Busy(Transient):
    """What a canary may be told: the model answers others, and is well."""


class OtherModel(EarfulError):
    """Triton serves another version than the run was opened for: leave, and wait for a fitting run at the next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The speech model's answer; `queue_ms` is what the round trip took beside the model's own time."""

    answer: SpeechAnswer
    queue_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectSpan:
    """Characters start..end of the text; confidence 0..1."""

    start: int
    end: int
    confidence: float
    aspect_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Polarity:
    """Calibrated probabilities that sum to 1."""

    negative: float
    neutral: float
    positive: float

    @property
    def label(self) -> Literal["negative", "neutral", "positive"]:
        if self.negative >= max(self.neutral, self.positive):
            return "negative"
        return "neutral" if self.neutral >= self.positive else "positive"

    @property
    def sentiment(self) -> float:
        """-1..1: P(positive) - P(negative)."""
        return self.positive - self.negative


class Inference:
    """One client a process: a new one per request is three to five times slower."""

    def __init__(
        self,
        url: str,
        *,
        ssl: bool = False,
        inflight: int = 64,
        speech_model: str = "whisper",
        known_aspects: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`known_aspects`: words that are aspects wherever a text on that product has them."""
        self._url = url
        self._client = triton.InferenceServerClient(url, ssl=ssl)
        self._asking = Asking(self._client)
        self._inflight = asyncio.Semaphore(inflight)
        self.speech_model = speech_model
        self.versions: dict[str, str] = {}  # model -> the version that must answer; one not listed is not checked
        self.known_aspects = known_aspects or {}
        # A request has one list for all its texts. Most products have none: their texts go together.
        self._aspects: dict[Sequence[str], Bundle[str, tuple[list[AspectSpan], str]]] = {
            known: Bundle(
                partial(self._ask_aspects, known=known), most=MOST_TEXTS, weight=len, heaviest=MOST_CHARACTERS
            )
            for known in ((), *map(tuple, self.known_aspects.values()))
        }
        self._polarities = Bundle(
            self._ask_polarities, most=MOST_TEXTS, weight=lambda one: len(one[1]), heaviest=MOST_SPANS
        )

    async def close(self) -> None:
        await self._client.close()

    async def canary(self, models: Sequence[str], *, turn: Turn = Turn.BEFORE_OURS) -> bool:
        """Whether each of these models answers a real, small request soon. A dead stub still says that it is ready.

        It does not wait for the requests in flight of this worker, or a full queue would look like an illness.
        """
        deadline = Deadline.after(CANARY_SECONDS)
        try:
            if self.speech_model in models:
                with suppress(Busy):
                    await self._ask_little(deadline, turn)
            if "aspects" in models:
                await self._ask_aspects([CANARY_TEXT], deadline, turn=turn)
            if "cvib" in models:
                span = AspectSpan(start=4, end=11, confidence=1.0, aspect_id="")
                await self._ask_polarities([(CANARY_TEXT, [span])], deadline, turn=turn)
        except (Transient, Permanent):
            return False
        return True

    async def model_parameters(self, model: str) -> dict[str, str]:
        """The version strings that a model's config.pbtxt carries, which go into the run."""
        try:
            config = await self._client.get_model_config(model, as_json=True, client_timeout=5)
        except InferenceServerException as err:
            if str(StatusCode.NOT_FOUND) in str(err.status()):
                raise Transient(
                    f"Triton at {self._url} serves no model {model}: its model repository must hold it"
                ) from err
            why = f"Triton does not answer for model {model} at {self._url} ({err.status()})"
            raise Transient(f"{why}; EARFUL_TRITON_URL names its gRPC address") from err
        parameters = config["config"].get("parameters", {})
        return {name: value.get("string_value", "") for name, value in parameters.items()}

    async def speech_version(self) -> str:
        """The version of the speech model, as its answers carry it: whoever asks waits behind all the others."""
        return (await self._ask_little(Deadline.after(VERSION_SECONDS), Turn.BEFORE_OURS)).answer.version

    async def _ask_little(self, deadline: Deadline, turn: Turn) -> Transcript:
        return await self.transcribe(CANARY_AUDIO, 16_000, deadline, turn=turn, max_tokens=4)

    async def transcribe(
        self, audio: Array, rate: int, deadline: Deadline, *, turn: Turn = Turn.LAST, max_tokens: int | None = None
    ) -> Transcript:
        """`audio`: float32 [n] in -1..1 at `rate` Hz."""
        request = SpeechRequest(task=Task.TRANSCRIBE, audio=audio, rate=rate, max_tokens=max_tokens)
        return await self._ask_speech(request, deadline, turn=turn)

    @property
    def summarizes(self) -> bool:
        """Whether the speech model writes summaries of transcripts."""
        return self.speech_model in SUMMARIZING

    async def summarize(self, transcript: str, deadline: Deadline) -> Transcript:
        """The answer's text is JSON; see workers/summaries.py."""
        return await self._ask_speech(SpeechRequest(task=Task.SUMMARIZE, text=transcript), deadline)

    async def _ask_speech(self, request: SpeechRequest, deadline: Deadline, *, turn: Turn = Turn.LAST) -> Transcript:
        started = perf_counter()
        out = await self._infer(self.speech_model, request.tensors(), SPEECH_OUTPUTS, deadline, turn=turn)
        try:
            answer = parse_answer(out)
        except ValueError as err:
            raise Transient(f"{self.speech_model}: {err}") from err
        if not (np.isfinite(answer.mean_logprob) and np.isfinite(answer.infer_ms)):
            raise Transient(f"{self.speech_model} answered with what is no number")
        self._check_version(self.speech_model, answer.version)
        return Transcript(answer=answer, queue_ms=max(0.0, (perf_counter() - started) * 1000 - answer.infer_ms))

    async def aspects(
        self, text: str, deadline: Deadline, *, product: str | None = None
    ) -> tuple[list[AspectSpan], str]:
        """Spans in the text on this product, and the model's version."""
        known = tuple(self.known_aspects.get(product or "", ()))
        return await self._aspects[known].ask(text, deadline)

    async def polarities(
        self, text: str, spans: Sequence[AspectSpan], deadline: Deadline
    ) -> tuple[list[Polarity], str]:
        """One polarity a span, and the model's version; without a span the model is not asked."""
        return await self._polarities.ask((text, spans), deadline) if spans else ([], "")

    async def _ask_aspects(
        self, texts: Sequence[str], deadline: Deadline, *, known: Sequence[str] = (), turn: Turn = Turn.LAST
    ) -> list[tuple[list[AspectSpan], str]]:
        out = await self._infer(
            "aspects",
            {"TEXT": strings(*texts)} | ({"KNOWN": strings(*known)} if known else {}),
            ("COUNT", "START", "END", "CONFIDENCE", "ASPECT_ID", "VERSION"),
            deadline,
            turn=turn,
        )
        counts, version = out["COUNT"].reshape(-1).tolist(), text_of(out["VERSION"], "aspects")
        self._check_version("aspects", version)
        columns = [out[name].tolist() for name in ("START", "END", "CONFIDENCE", "ASPECT_ID")]
        if len(counts) != len(texts) or min(counts) < 0 or any(len(column) != sum(counts) for column in columns):
            raise Transient("aspects answered with outputs of different lengths")
        found = (
            AspectSpan(start=start, end=end, confidence=confidence, aspect_id=aspect_id.decode())
            for start, end, confidence, aspect_id in zip(*columns, strict=True)
        )
        answers = [list(islice(found, count)) for count in counts]
        for text, spans in zip(texts, answers, strict=True):
            if not all(0 <= span.start < span.end <= len(text) and 0 <= span.confidence <= 1 for span in spans):
                raise Transient("aspects answered with a span outside the text")
        return [(spans, version) for spans in answers]

    async def _ask_polarities(
        self, asked: Sequence[tuple[str, Sequence[AspectSpan]]], deadline: Deadline, *, turn: Turn = Turn.LAST
    ) -> list[tuple[list[Polarity], str]]:
        counts = [len(spans) for _, spans in asked]
        out = await self._infer(
            "cvib",
            {
                "TEXT": strings(*(text for text, _ in asked)),
                "COUNT": int32(*counts),
                "START": int32(*(span.start for _, spans in asked for span in spans)),
                "END": int32(*(span.end for _, spans in asked for span in spans)),
            },
            ("PROBABILITIES", "VERSION"),
            deadline,
            turn=turn,
        )
        rows, version = out["PROBABILITIES"], text_of(out["VERSION"], "cvib")
        self._check_version("cvib", version)
        if rows.shape != (sum(counts), 3) or not np.all(np.abs(rows.sum(axis=1) - 1) < 1e-3):
            raise Transient("cvib answered with what are no probabilities")
        polarities = (Polarity(negative=n, neutral=o, positive=p) for n, o, p in rows.tolist())
        return [(list(islice(polarities, count)), version) for count in counts]

    async def _infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: Deadline, *, turn: Turn
    ) -> dict[str, Array]:
        async with self._inflight if turn is Turn.LAST else nullcontext():
            remaining = deadline.check()
            started = perf_counter()
            try:
                tensors = [tensor(name, value) for name, value in inputs.items()]
                answer = await self._asking.infer(model, tensors, seconds=remaining, canary=turn is Turn.FIRST)
            except InferenceServerException as err:
                raise self._sorted(model, err) from err
            INFERENCE_SECONDS.labels(model=model).observe(perf_counter() - started)
        found = {name: answer.as_numpy(name) for name in outputs}
        missing = [name for name, value in found.items() if value is None]
        if missing:
            raise Transient(f"{model} answered without {', '.join(missing)}")
        INFERENCES.labels(model=model, outcome="ok").inc()
        return found

    def _check_version(self, model: str, version: str) -> None:
        if (wanted := self.versions.get(model, version)) != version:
            raise OtherModel(f"{model} answered as version {version}, and the run was opened for {wanted}")

    def _sorted(self, model: str, err: InferenceServerException) -> Exception:
        """Triton's Python backend has one status for all of a model's own errors; the message tells whose fault it was."""
        said = err.message() or ""
        if BUSY_PREFIX in said:
            return Busy(f"{model} answers others")
        if (refused := error_from(said)) is not None:
            INFERENCES.labels(model=model, outcome=refused.reason).inc()
            return Permanent(refused.reason, f"{model} refuses it: {refused.detail[:200]}")
        INFERENCES.labels(model=model, outcome="error").inc()
        return Transient(f"{model} did not answer ({err.status() or StatusCode.UNKNOWN})")


def tensor(name: str, value: Array) -> Any:
    datatype = {"f": "FP32", "i": "INT32", "O": "BYTES"}[value.dtype.kind]
    made = triton.InferInput(name, list(value.shape), datatype)
    made.set_data_from_numpy(value)
    return made


def strings(*values: str) -> Array:
    return np.array([value.encode() for value in values], dtype=object)


def int32(*values: int) -> Array:
    return np.array(values, dtype=np.int32)


def text_of(value: Array, model: str) -> str:
    if value.shape != (1,):
        raise Transient(f"{model} answered without its version")
    raw = value[0]
    return raw.decode() if isinstance(raw, bytes) else str(raw)
