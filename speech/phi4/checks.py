"""What a request of the contract must hold for its task; everything that can be refused without the model is refused here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.contract import InvalidRequest, SpeechRequest, Task, UnsupportedTask
from speech.phi4.audio import Clip, check_clip, front_end
from speech.phi4.limits import Limits
from speech.phi4.prompts import LANGUAGES

__all__ = ["SPOKEN", "check_request", "is_silent", "needed_audio"]

#: Tasks whose answer is as long as the speech.
SPOKEN = frozenset({Task.TRANSCRIBE, Task.TRANSLATE, Task.TRANSLATE_CHAIN})
_SILENCE = 1e-3  # -60 dBFS: no speech is that quiet
_ROUNDING_SECONDS = 0.01


def check_request(request: SpeechRequest, limits: Limits) -> None:
    """Raises InvalidRequest or UnsupportedTask with one sentence; the model's own sizes are checked at admission."""
    if request.max_tokens is not None and not 1 <= request.max_tokens <= limits.max_new_tokens:
        raise InvalidRequest(f"MAX_TOKENS must be 1 to {limits.max_new_tokens}")
    if request.language is not None and request.language not in LANGUAGES:
        raise InvalidRequest(f"phi4 knows the languages {', '.join(LANGUAGES)}")
    if len(request.text or "") > limits.max_text_characters:
        raise InvalidRequest(f"TEXT is too long: at most {limits.max_text_characters:,} characters")
    text = (request.text or "").strip()
    if request.task in SPOKEN:
        if request.audio is None:
            raise InvalidRequest("AUDIO is missing")
        if text:
            raise InvalidRequest(f"{request.task} takes no TEXT")
        if request.language is None and request.task is not Task.TRANSCRIBE:
            raise InvalidRequest("LANGUAGE is missing: name the language to translate to")
    elif request.task is Task.GENERATE and not text:
        raise InvalidRequest("TEXT is missing: generate continues a text")
    elif request.audio is None and not text:
        raise InvalidRequest("AUDIO or TEXT is missing: summarize takes a recording or a transcript")
    elif request.task is Task.SUMMARIZE and request.audio is not None and request.language not in (None, "en"):
        raise UnsupportedTask("phi4 summarizes audio in English only: transcribe it and summarize the transcript")
    if request.audio is not None:
        _check_audio(request.audio, request.rate, spoken=request.task in SPOKEN, limits=limits)


def needed_audio(request: SpeechRequest) -> NDArray[np.float32]:
    """The audio of a checked request that has some."""
    assert request.audio is not None
    return request.audio


def is_silent(audio: NDArray[np.float32]) -> bool:
    """Whether no sample is louder than -60 dBFS."""
    return not bool(np.any(np.abs(audio) >= _SILENCE))


def _check_audio(audio: NDArray[np.float32], rate: int, *, spoken: bool, limits: Limits) -> None:
    front_end(rate)
    # First, as the model's own least is less.
    if np.ndim(audio) == 1 and (seconds := len(audio) / rate) < limits.min_audio_seconds:
        raise InvalidRequest(f"audio of {seconds:.3f} s is too short: at least {limits.min_audio_seconds:g} s")
    check_clip(Clip(samples=audio, rate=rate))
    seconds = len(audio) / rate
    most = limits.max_utterance_seconds if spoken else limits.max_summary_seconds
    if seconds > most + _ROUNDING_SECONDS:
        advice = "cut it first" if spoken else "transcribe it in pieces and summarize the transcript"
        raise InvalidRequest(f"audio of {seconds:.1f} s is too long: at most {most:g} s, {advice}")
