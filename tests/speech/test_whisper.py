"""The recogniser: what it accepts, and what it makes of silence, noise and loops."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from speech import whisper
from speech.contract import FinishReason, InvalidRequest, SpeechRequest, Task, UnsupportedTask
from speech.whisper import Cancelled, DecodeOptions, Recognizer, find_weights, repeats_itself, resample
from tests.speech.calls import sample_calls


@cache
def recognizer() -> Recognizer:
    return Recognizer()


@cache
def utterance() -> NDArray[np.float32]:
    """ "No, it was the elevator right next to the room, all night long." """
    call = next(sample_calls("hotel-noise"))
    audio = call.samples[int(24.5 * call.rate) : int(28.7 * call.rate), 0]
    return resample(audio.astype(np.float32) / np.float32(32768), call.rate)


def test_it_recognises_speech() -> None:
    said = recognizer().transcribe(utterance())
    assert "elevator right next to the room" in said.text
    assert said.finish_reason is FinishReason.STOP
    assert (said.windows, said.tokens_in) == (1, 750 + 2)
    assert 5 < said.tokens_out < 40
    assert -0.7 < said.mean_logprob < 0


@pytest.mark.parametrize("level", [0.0, 1e-5, 0.003, 0.05])
def test_silence_and_noise_give_no_text(level: float) -> None:
    noise = np.random.default_rng(0).standard_normal(3 * 16_000).astype(np.float32) * np.float32(level)
    said = recognizer().transcribe(noise)
    assert (said.text, said.finish_reason) == ("", FinishReason.NO_SPEECH)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(0, np.float32), "too short"),
        (np.zeros(700, np.float32), "too short"),
        (np.zeros(31 * 16_000, np.float32), "too long"),
        (np.full(16_000, np.nan, np.float32), "NaN"),
        (np.full(16_000, np.inf, np.float32), "NaN"),
        (np.full(16_000, 12_000, np.float32), "scaled"),
        (np.zeros((2, 16_000), np.float32), r"float32 \[n\]"),
        (np.zeros(16_000, np.int16), r"float32 \[n\]"),
    ],
)
def test_other_audio_is_refused_with_the_reason(audio: NDArray[np.float32], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        recognizer().transcribe(audio)


def test_other_requests_are_refused() -> None:
    audio = utterance()
    with pytest.raises(InvalidRequest, match="AUDIO is missing"):
        recognizer().answer(SpeechRequest(task=Task.TRANSCRIBE))
    with pytest.raises(InvalidRequest, match="RATE"):
        recognizer().answer(SpeechRequest(task=Task.TRANSCRIBE, audio=audio, rate=96_000))
    with pytest.raises(UnsupportedTask, match="not summarize"):
        recognizer().answer(SpeechRequest(task=Task.SUMMARIZE, text="x"))
    with pytest.raises(UnsupportedTask, match="language"):
        recognizer().answer(SpeechRequest(task=Task.TRANSCRIBE, audio=audio, language="de"))


def test_a_loop_is_tried_again_in_the_full_window() -> None:
    call = next(sample_calls("late-delivery"))
    spoken = call.samples[15_510 * 8 : 17_277 * 8, 0].astype(np.float32) / np.float32(
        32768
    )  # "Eight eight four one seven."
    audio = resample(spoken, call.rate)
    # In a window that is too short tiny.en says it four times.
    short = Recognizer(options=dataclasses.replace(DecodeOptions(), lead_seconds=0.0, window_seconds=0.5))
    found = short.transcribe(audio)
    assert (found.windows, found.finish_reason) == (2, FinishReason.STOP)
    assert "".join(filter(str.isdigit, found.text)) == "88417"


def test_the_token_limit_ends_the_text() -> None:
    said = recognizer().transcribe(utterance(), max_tokens=4)
    assert (said.tokens_out, said.finish_reason, said.windows) == (4, FinishReason.LENGTH, 1)


def test_a_cancelled_request_stops() -> None:
    asked = iter((False, True))
    with pytest.raises(Cancelled):
        recognizer().transcribe(utterance(), cancelled=lambda: next(asked))


def test_nearly_thirty_seconds_keep_their_end() -> None:
    audio = np.zeros(30 * 16_000, np.float32)
    audio[-len(utterance()) :] = utterance()
    assert "elevator" in recognizer().transcribe(audio).text


@pytest.mark.parametrize(
    ("text", "tokens", "loops"),
    [
        ("No, no, no.", [7, 7, 7], False),
        ("I see. I would like to refund one night.", list(range(12)), False),
        ("thank you " * 4, [1, 2] * 4, False),
        ("thank you " * 6, [1, 2] * 6, True),
        ("a " * 40, [5] * 40, True),
        ("on the way and so on " * 20, list(range(6)) * 20 + [9], True),
    ],
)
def test_loops_are_recognised(text: str, tokens: list[int], loops: bool) -> None:
    assert repeats_itself(text, tokens, 2.4) is loops


def test_weights_and_options_are_named() -> None:
    assert recognizer().version.startswith("whisper-en-int8-")
    options = DecodeOptions(window_seconds=20.0)
    assert DecodeOptions.from_json(options.canonical_json()) == options
    with pytest.raises(ValueError, match="decode options"):
        DecodeOptions.from_json('{"beams": 5}')


def test_a_folder_without_a_model_is_refused(tmp_path: pytest.TempPathFactory) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.bin"):
        find_weights(str(tmp_path))
    assert (find_weights() / "model.bin").is_file()
    assert whisper.find_weights(str(find_weights())) == find_weights()
