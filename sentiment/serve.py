"""The two models as they are served: onnxruntime, one thread, no torch. The Triton models and `predict` call these.

Texts share a batch only where the folder's int8 scales are fixed (graph.py) and only with others of their length: each
is padded to a multiple of 8 tokens, alone or not, so its answer is the same bits in any company. There aspects whose tokens
are the same (those of a sentence, where the model reads the sentence alone) share one pass of the encoder. A folder without
fixed scales is asked one by one: dynamic int8 takes one scale over a batch (measured: 31 of 1,336 labels changed).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from sentiment.encode import EncodedPair, EncodedSentence, EncodedWords, TextEncoder, pad
from sentiment.language import foreign
from sentiment.metrics import softmax
from sentiment.segment import sentence_at, sentences
from sentiment.spans import Found, decode, joined, listed, mentioned, without_overlaps
from sentiment.taxonomy import aspect_id

__all__ = [
    "MAX_CHARACTERS",
    "Aspect",
    "AspectModel",
    "InvalidInput",
    "PolarityModel",
    "UnsupportedLanguage",
    "require_english",
]

MAX_CHARACTERS = 20_000  # about 4,000 words: a long review; the extractor takes some 2 s of one core for one

BUCKET = 8  # tokens; wider buckets pad more, narrower ones fill fewer batches
BATCH = 8  # passes; measured, per CPU second: 432 alone, 606 by 8, 567 by 32

Spans = Sequence[tuple[int, int]]
Arrays = dict[str, NDArray[np.generic]]


class InvalidInput(ValueError):
    """The request can never be answered; the message says why and holds nothing of the text."""


class UnsupportedLanguage(InvalidInput):
    """The text is not English."""


def require_english(text: str) -> None:
    """Raises UnsupportedLanguage for a text of 20 letters or more that is found not to be English."""
    language = foreign(text)
    if language is not None:
        raise UnsupportedLanguage(f"the text is not English (it looks like {language})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect:
    """An aspect in a text: characters [start, end), confidence 0..1, taxonomy id."""

    start: int
    end: int
    confidence: float
    aspect_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """What one pass of the encoder reads for the polarity model, and the aspects it serves: their places in a request."""

    ids: list[int]
    types: list[int]
    aspects: list[tuple[int, EncodedPair]]


Row = TypeVar("Row", _Pass, EncodedWords)


class _Net(Generic[Row]):
    """A serving folder: model.onnx, tokenizer.json, model.json."""

    def __init__(self, folder: Path, kind: str, arrays: Callable[[Sequence[Row], int, int], Arrays]) -> None:
        settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if settings["kind"] != kind:
            raise ValueError(f"{folder.name} holds a model of kind {settings['kind']}, not {kind}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # a pair is too small to share; instances use the cores
        options.inter_op_num_threads = 1
        self.version: str = settings["version"]
        self._temperature = float(settings["temperature"])
        self._threshold = float(settings.get("threshold", 0.0))
        self._fixed = bool(settings.get("fixed_scales", False))
        self._second = settings.get("input", "pair") == "pair"
        self._arrays: Callable[[Sequence[Row], int, int], Arrays] = arrays
        self._encoder = TextEncoder.load(folder / "tokenizer.json", int(settings["max_tokens"]))
        self._session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self._inputs = [one.name for one in self._session.get_inputs()]

    def _run(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Logits of some rows at a time, and which rows they are; those of padding are there too."""
        for tokens, chosen in self._batches([len(row.ids) for row in rows]):
            arrays = self._arrays([rows[i] for i in chosen], tokens, self._encoder.pad_id)
            yield chosen, self._session.run(["logits"], {name: arrays[name] for name in self._inputs})[0]

    def _batches(self, lengths: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Padded length and rows of each batch."""
        if not self._fixed:
            return [(length, [i]) for i, length in enumerate(lengths)]
        buckets: Mapping[int, list[int]] = defaultdict(list)
        for i, length in enumerate(lengths):
            buckets[-(-length // BUCKET) * BUCKET].append(i)
        return [(tokens, rows[k : k + BATCH]) for tokens, rows in buckets.items() for k in range(0, len(rows), BATCH)]


def _common(rows: Sequence[_Pass] | Sequence[EncodedWords], tokens: int, pad_id: int) -> Arrays:
    return {"ids": pad([r.ids for r in rows], pad_id, tokens), "mask": pad([[1] * len(r.ids) for r in rows], 0, tokens)}


def _pass_arrays(passes: Sequence[_Pass], tokens: int, pad_id: int) -> Arrays:
    """As graph.py names them, and `aspect` [aspects, tokens] for a graph without fixed scales."""
    aspects = [[pair.aspect for _, pair in one.aspects] for one in passes]
    rows = [[0, *np.flatnonzero(np.any(some, axis=0)).tolist()] for some in aspects]  # [CLS], then all aspects' tokens
    widest = max(len(r) for r in rows)
    places = []
    for i, (read, some) in enumerate(zip(rows, aspects, strict=True)):
        places += [[i * widest, *(i * widest + k for k, token in enumerate(read) if mask[token])] for mask in some]
    weight = np.zeros((len(places), max(len(p) for p in places)), np.float32)
    for i, p in enumerate(places):
        weight[i, 1 : len(p)] = 1 / (len(p) - 1)
    types = pad([one.types for one in passes], 0, tokens)
    aspect = pad([mask for some in aspects for mask in some], 0, tokens)
    return {
        **_common(passes, tokens, pad_id), "types": types, "aspect": aspect, "rows": pad(rows), "places": pad(places),
        "weight": weight,
    }  # fmt: skip


def _check(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(f"the text has {len(text)} characters, {MAX_CHARACTERS} are the most")
    try:
        text.encode()
    except UnicodeEncodeError as err:  # the tokenizer would raise TypeError
        raise InvalidInput(
            f"character {err.start} of the text is half a surrogate pair: write the whole character"
        ) from err


class PolarityModel(_Net[_Pass]):
    """CVIB: how a text feels about each of its aspects."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "cvib", _pass_arrays)
        # Graphs of before December 2026 have no `places`: there each aspect has a pass of its own.
        self._shares = self._fixed and "places" in self._inputs

    def probabilities(self, text: str, spans: Spans) -> NDArray[np.float32]:
        """[n, 3]: negative, neutral, positive, calibrated, for each span of characters [start, end).

        The model reads the sentence around the span (or a window of it). Raises InvalidInput.
        """
        return self.judge(self.pairs(text, spans))

    def pairs(self, text: str, spans: Spans) -> list[EncodedPair]:
        """What `judge` takes, one for each span. Raises InvalidInput."""
        _check(text)
        ranges = sentences(text)
        encoded: dict[tuple[int, int], EncodedSentence] = {}  # each once, however many aspects it names
        out = []
        for i, (start, end) in enumerate(spans):
            if not 0 <= start < end <= len(text):
                raise InvalidInput(f"span {i} ({start}:{end}) lies outside the text of {len(text)} characters")
            low, high = sentence_at(ranges, start, end)
            if (low, high) not in encoded:
                encoded[low, high] = self._encoder.sentence(text[low:high])
            try:
                out.append(self._encoder.pair(encoded[low, high], start - low, end - low, second=self._second))
            except ValueError as err:
                raise InvalidInput(f"span {i} ({start}:{end}) holds nothing to read") from err
        return out

    def judge(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        """[n, 3] for pairs of any texts; none depends on the others."""
        logits = np.zeros((len(pairs), 3), np.float32)
        passes = self._passes(pairs)
        for chosen, answers in self._run(passes):
            logits[[i for k in chosen for i, _ in passes[k].aspects]] = answers
        return softmax(logits, self._temperature).astype(np.float32)

    def _passes(self, pairs: Sequence[EncodedPair]) -> list[_Pass]:
        """Pairs of the same tokens share one, where the graph allows it."""
        passes: dict[object, _Pass] = {}
        for i, pair in enumerate(pairs):
            key = pair.read if self._shares else i
            one = passes.setdefault(key, _Pass(ids=pair.ids, types=pair.types, aspects=[]))
            one.aspects.append((i, pair))
        return list(passes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window over the words of the sentence that begins at character `low` of its text."""

    low: int
    sentence: str
    words: EncodedWords


class AspectModel(_Net[EncodedWords]):
    """The extractor: which aspects a text names."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "aspects", _common)

    def find(self, text: str, *, threshold: float | None = None, known: Sequence[str] = ()) -> list[Aspect]:
        """Aspects in text order, without overlaps; none for a text that names none. Raises InvalidInput.

        `threshold` replaces the folder's least confidence. `known` are words that are aspects wherever they stand (a
        product's list, say), whatever their confidence, and before anything that overlaps them.
        """
        return self.find_all([text], threshold=threshold, known=known)[0]

    def find_all(
        self, texts: Sequence[str], *, threshold: float | None = None, known: Sequence[str] = ()
    ) -> list[list[Aspect]]:
        """The aspects of each text; none depends on the other texts. Raises InvalidInput."""
        least = self._threshold if threshold is None else threshold
        windows = [self.windows(text) for text in texts]
        found: dict[int, NDArray[np.float32]] = {}
        for chosen, answers in self._run([window.words for some in windows for window in some]):
            found.update(zip(chosen, answers, strict=True))
        logits = (found[i] for i in range(len(found)))
        pattern = listed(known)
        return [
            self._aspects(text, some, [next(logits) for _ in some], least, pattern)
            for text, some in zip(texts, windows, strict=True)
        ]

    def windows(self, text: str) -> list[Window]:
        """What the network reads of a text. Raises InvalidInput."""
        _check(text)
        return [
            Window(low=low, sentence=text[low:high], words=words)
            for low, high in sentences(text)
            for words in self._encoder.words(text[low:high])
        ]

    def _aspects(
        self,
        text: str,
        windows: Sequence[Window],
        logits: Sequence[NDArray[np.float32]],
        least: float,
        known: re.Pattern[str] | None,
    ) -> list[Aspect]:
        found: list[Found] = []
        sure: list[Found] = []
        for _, group in groupby(zip(windows, logits, strict=True), key=lambda pair: pair[0].low):
            some = list(group)
            low, sentence = some[0][0].low, some[0][0].sentence
            words, tags = joined([(window.words.spans, scores[window.words.first]) for window, scores in some])
            inside = decode(sentence, words, tags, temperature=self._temperature, threshold=least)
            named = mentioned(sentence, words, tags, known, temperature=self._temperature)
            for target, new in ((found, inside), (sure, named)):
                target += [Found(start=low + f.start, end=low + f.end, confidence=f.confidence) for f in new]
        return [
            Aspect(start=f.start, end=f.end, confidence=f.confidence, aspect_id=aspect_id(text[f.start : f.end]))
            for f in without_overlaps(found, sure)
        ]
