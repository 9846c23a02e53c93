"""The two models as they are served: onnxruntime, one thread, no torch. The Triton models and `predict` call these.

Every pair and every window runs by itself. int8 with dynamic scales takes one scale over a whole batch, padding
included, so that batch-mates would change an answer (measured: 31 of 1,336 labels); batches of 32 gain 16 % only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from sentiment.encode import TextEncoder
from sentiment.metrics import softmax
from sentiment.segment import sentence_at, sentences
from sentiment.spans import Found, decode
from sentiment.taxonomy import aspect_id

__all__ = ["MAX_CHARACTERS", "MAX_SPANS", "Aspect", "AspectModel", "InvalidInput", "PolarityModel"]

MAX_CHARACTERS = 20_000  # about 4,000 words: a long review; one takes some 2 s of one core, the bound of a request
MAX_SPANS = 512  # 512 pairs take about 1.2 s of one core


class InvalidInput(ValueError):
    """The request can never be answered; the message says why and holds nothing of the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect:
    """An aspect in a text: characters [start, end), confidence 0..1, taxonomy id."""

    start: int
    end: int
    confidence: float
    aspect_id: str


class _Net:
    """A serving folder: model.onnx, tokenizer.json, model.json."""

    def __init__(self, folder: Path, kind: str) -> None:
        settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if settings["kind"] != kind:
            raise ValueError(f"{folder.name} holds a model of kind {settings['kind']}, not {kind}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # a pair is too small to share; instances use the cores
        options.inter_op_num_threads = 1
        self.version: str = settings["version"]
        self._temperature = float(settings["temperature"])
        self._threshold = float(settings.get("threshold", 0.0))
        self._encoder = TextEncoder.load(folder / "tokenizer.json", int(settings["max_tokens"]))
        self._session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def _run(self, **inputs: Sequence[int]) -> NDArray[np.float32]:
        rows = {name: np.array([row], dtype=np.int64) for name, row in inputs.items()}
        out: NDArray[np.float32] = self._session.run(["logits"], rows)[0][0]
        return out


def _check(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(f"the text has {len(text)} characters, {MAX_CHARACTERS} are the most")


class PolarityModel(_Net):
    """CVIB: how a text feels about each of its aspects."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "cvib")

    def probabilities(self, text: str, spans: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        """[n, 3]: negative, neutral, positive, calibrated, for each span of characters [start, end).

        The model reads the sentence around the span (or a window of it). Raises InvalidInput.
        """
        _check(text)
        if len(spans) > MAX_SPANS:
            raise InvalidInput(f"{len(spans)} spans, {MAX_SPANS} are the most")
        ranges = sentences(text)
        out = np.zeros((len(spans), 3), dtype=np.float32)
        for i, (start, end) in enumerate(spans):
            if not 0 <= start < end <= len(text):
                raise InvalidInput(f"span {i} ({start}:{end}) lies outside the text of {len(text)} characters")
            low, high = sentence_at(ranges, start, end)
            try:
                pair = self._encoder.pair(text[low:high], start - low, end - low)
            except ValueError as err:
                raise InvalidInput(f"span {i} ({start}:{end}) holds nothing to read") from err
            logits = self._run(ids=pair.ids, mask=[1] * len(pair.ids), types=pair.types, aspect=pair.aspect)
            out[i] = softmax(logits, self._temperature)
        return out


class AspectModel(_Net):
    """The extractor: which aspects a text names."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "aspects")

    def find(self, text: str, *, threshold: float | None = None) -> list[Aspect]:
        """Aspects in text order, without overlaps; none for a text that names none. Raises InvalidInput.

        `threshold` replaces the folder's least confidence.
        """
        _check(text)
        least = self._threshold if threshold is None else threshold
        found: list[Found] = []
        for low, high in sentences(text):
            sentence = text[low:high]
            inside: list[Found] = []
            for window in self._encoder.words(sentence):
                logits = self._run(ids=window.ids, mask=[1] * len(window.ids))[window.first]
                inside += decode(sentence, window.spans, logits, temperature=self._temperature, threshold=least)
            found += [
                Found(start=low + f.start, end=low + f.end, confidence=f.confidence) for f in _without_overlaps(inside)
            ]
        return [
            Aspect(start=f.start, end=f.end, confidence=f.confidence, aspect_id=aspect_id(text[f.start : f.end]))
            for f in found
        ]


def _without_overlaps(found: Sequence[Found]) -> list[Found]:
    """Neighbouring windows may both see an aspect: the surer one stays, the longer one if equal."""
    kept: list[Found] = []
    for f in sorted(found, key=lambda f: (-f.confidence, f.start - f.end, f.start)):
        if all(f.end <= k.start or k.end <= f.start for k in kept):
            kept.append(f)
    return sorted(kept, key=lambda f: f.start)
