"""Fake stereo is told from two speakers, at the same sample however the audio is split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.twins import ChannelCorrelation, identical_channels
from tests.speech.voices import babble

RATE = 8_000
VOICE, OTHER = babble(RATE, 3.0), babble(RATE, 3.0, seed=9)


def test_same_sound_at_another_level_is_one_channel() -> None:
    quieter = (VOICE // 3).astype(np.int16)
    assert identical_channels(VOICE, VOICE, rate=RATE)
    assert identical_channels(VOICE, quieter, rate=RATE)


def test_two_speakers_cross_talk_and_silence_are_not() -> None:
    crosstalk = (OTHER + VOICE // 3).astype(np.int16)
    nothing = np.zeros_like(VOICE)
    assert not identical_channels(VOICE, OTHER, rate=RATE)
    assert not identical_channels(VOICE, crosstalk, rate=RATE)
    assert not identical_channels(VOICE, nothing, rate=RATE)
    assert not identical_channels(nothing, nothing, rate=RATE)
    assert ChannelCorrelation(rate=RATE).identical is None


@pytest.mark.parametrize("faintness", [8, 100])
def test_who_is_heard_faintly_on_the_other_channel_is_no_twin(faintness: int) -> None:
    """The agent greets alone; then the customer speaks, whose words must not be dropped."""
    silence = np.zeros_like(VOICE)
    agent, customer = np.concatenate([VOICE, silence]), np.concatenate([silence, OTHER])
    first, second = customer + agent // faintness, agent + customer // faintness
    assert not identical_channels(first.astype(np.int16), second.astype(np.int16), rate=RATE)
    assert not identical_channels(first[: len(VOICE)], second[: len(VOICE)], rate=RATE)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 9_000), min_size=1, max_size=5))
def test_the_verdict_is_taken_at_the_same_sample(lengths: list[int]) -> None:
    whole = ChannelCorrelation(rate=RATE)
    whole.update(VOICE, OTHER)
    pieces, at, turn = ChannelCorrelation(rate=RATE), 0, 0
    while at < len(VOICE):
        size = lengths[turn % len(lengths)]
        pieces.update(VOICE[at : at + size], OTHER[at : at + size])
        pieces = ChannelCorrelation.from_bytes(pieces.to_bytes())
        at, turn = at + size, turn + 1
    assert pieces == whole
    assert whole.decided


def test_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="another version"):
        ChannelCorrelation.from_bytes(b"\x09" * 46)
    with pytest.raises(ValueError, match="same number"):
        ChannelCorrelation(rate=RATE).update(VOICE, VOICE[:-1])
