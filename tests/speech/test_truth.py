"""Cutting and recognition against the ground truth of the sample calls."""

from __future__ import annotations

import numpy as np
import pytest

from commands.recognition import Whisper, lines_of
from speech.pieces import cut_channels
from speech.segment import Segmenter
from speech.wer import word_errors
from speech.whisper import find_weights
from tests.speech.calls import sample_calls


def test_utterances_start_where_they_start() -> None:
    segmenter = Segmenter()
    errors = []
    for call in sample_calls():
        cuts = cut_channels(call.samples, call.rate, segmenter)
        for said in call.utterances:
            starts = [cut.start_sample * 1000 / call.rate for cut in cuts[said["channel"]]]
            errors.append(min(abs(start - said["start_ms"]) for start in starts))
    assert len(errors) == 61
    assert np.mean(np.array(errors) <= 250) >= 0.95


@pytest.mark.timeout(300)
def test_word_error_rate_is_within_the_promise() -> None:
    calls = list(sample_calls())
    transcripts, too_short = lines_of(
        [(call.samples, call.rate) for call in calls], Whisper(find_weights()), Segmenter()
    )
    assert too_short == 0
    references, found = [], []
    for call, lines in zip(calls, transcripts, strict=True):
        assert [line["start_ms"] for line in lines] == sorted(line["start_ms"] for line in lines)
        for channel in (0, 1):
            references.append(" ".join(said["text"] for said in call.utterances if said["channel"] == channel))
            found.append(" ".join(line["text"] for line in lines if line["channel"] == channel))
    errors = word_errors(references, found)
    assert errors.words == 695
    assert errors.rate <= 0.065


def test_fake_stereo_is_transcribed_once() -> None:
    call = next(sample_calls("hotel-noise"))
    voice = call.samples[: 12 * call.rate, 0]
    twins = np.stack((voice, voice), axis=1)
    cuts = cut_channels(twins, call.rate, Segmenter())
    assert len(cuts) == 1
    assert len(cut_channels(call.samples, call.rate, Segmenter())) == 2
