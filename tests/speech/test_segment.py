"""The segmenter: what it cuts does not depend on how the audio comes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from speech.resample import RATES
from speech.segment import ChannelInput, ChannelState, Cut, CutOptions, Segmenter
from speech.vad import SileroVad
from tests.speech.voices import babble, speechlike


@cache
def segmenter(max_ms: int = 30_000, search_ms: int = 10_000) -> Segmenter:
    return Segmenter(SileroVad(), CutOptions(max_ms=max_ms, search_ms=search_ms))


def cut_whole(samples: NDArray[np.int16], rate: int, with_: Segmenter) -> list[Cut]:
    state = ChannelState(rate=rate)
    cuts = with_.advance([ChannelInput(state=state, samples=samples)])[0]
    return cuts + with_.flush(state)


def cut_in_pieces(samples: NDArray[np.int16], rate: int, with_: Segmenter, lengths: Sequence[int]) -> list[Cut]:
    """Split at `lengths` (repeated), saving and loading the state after every piece."""
    state, cuts, at, turn = ChannelState(rate=rate), [], 0, 0
    while at < len(samples):
        piece = samples[at : at + lengths[turn % len(lengths)]]
        before = state.keep_from
        found = with_.advance([ChannelInput(state=state, samples=piece)])[0]
        for cut in found:
            assert cut.start_sample >= before, "a cut needs samples that keep_from had given away"
        cuts += found
        at, turn = at + len(piece), turn + 1
        saved = state.to_bytes()
        assert len(saved) < 8192
        state = ChannelState.from_bytes(saved)
    return cuts + with_.flush(state)


@pytest.mark.parametrize("rate", RATES)
def test_speech_is_found_where_it_is_at_every_rate(rate: int) -> None:
    samples, spans = speechlike(rate, seconds=(1.5, 2.5), gap=1.2)
    cuts = cut_whole(samples, rate, segmenter())
    assert len(cuts) == len(spans)
    for cut, (start, end) in zip(cuts, spans, strict=True):
        assert abs(cut.start_sample - start) / rate < 0.3  # real speech is held to 0.25 s in test_truth.py
        assert abs(cut.end_sample - end) / rate < 0.35


@settings(max_examples=12, deadline=None)
@given(
    rate=st.sampled_from((8_000, 11_025, 16_000, 44_100, 48_000)),
    lengths=st.lists(st.integers(1, 30_000), min_size=1, max_size=6).filter(lambda x: sum(x) > 2_000),
)
def test_cuts_do_not_depend_on_the_chunks(rate: int, lengths: list[int]) -> None:
    samples, _ = speechlike(rate, seconds=(1.1, 4.0, 0.5), gap=0.9)
    with_ = segmenter(max_ms=3_000, search_ms=1_500)
    whole = cut_whole(samples, rate, with_)
    assert len(whole) >= 3
    assert cut_in_pieces(samples, rate, with_, lengths) == whole


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_cuts_do_not_depend_on_the_batch(seed: int) -> None:
    random = np.random.default_rng(seed)
    with_ = segmenter()
    rates = (8_000, 16_000, 8_000, 48_000)
    voices = [speechlike(rate, seconds=(1.0, 1.7), gap=0.8, seed=i)[0] for i, rate in enumerate(rates)]
    alone = [cut_whole(voice, rate, with_) for voice, rate in zip(voices, rates, strict=True)]
    states = [ChannelState(rate=rate) for rate in rates]
    cuts: list[list[Cut]] = [[] for _ in states]
    at = [0] * len(states)
    while any(at[i] < len(voices[i]) for i in range(len(states))):
        order = random.permutation(len(states))[: random.integers(1, len(states), endpoint=True)]
        inputs = []
        for i in order:
            size = int(random.integers(1, 60_000))
            inputs.append(ChannelInput(state=states[i], samples=voices[i][at[i] : at[i] + size]))
            at[i] += size
        for i, found in zip(order, with_.advance(inputs), strict=True):
            cuts[i] += found
    for i, state in enumerate(states):
        cuts[i] += with_.flush(state)
    assert cuts == alone
    assert all(len(found) >= 2 for found in cuts)


class Loud:
    """Takes everything for speech: for rules that only long speech reaches."""

    version = "loud"

    def step(
        self, windows: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        return np.ones(len(windows), np.float32), h, c


def test_a_long_utterance_is_cut_at_the_quietest_place_without_losing_a_sample() -> None:
    rate = 8_000
    samples = np.random.default_rng(0).integers(-9_000, 9_000, 75 * rate).astype(np.int16)
    for start in (15.0, 24.0, 49.0):  # the first is too early to be looked at
        samples[int(start * rate) : int((start + 0.2) * rate)] //= 10
    cuts = cut_whole(samples, rate, Segmenter(Loud()))
    assert len(cuts) == 3
    assert 24.0 < cuts[0].end_sample / rate < 24.2
    assert 49.0 < cuts[1].end_sample / rate < 49.2
    assert all(cut.end_sample - cut.start_sample <= 30 * rate for cut in cuts)
    assert (cuts[0].start_sample, cuts[-1].end_sample) == (0, len(samples))
    assert all(a.end_sample == b.start_sample for a, b in pairwise(cuts))
    assert cut_in_pieces(samples, rate, Segmenter(Loud()), (1_600, 7, 40_000)) == cuts


def test_silence_and_clicks_give_no_utterance() -> None:
    rate = 8_000
    silence = np.zeros(5 * rate, dtype=np.int16)
    assert cut_whole(silence, rate, segmenter()) == []
    silence[rate : rate + 40] = 20_000
    assert cut_whole(silence, rate, segmenter()) == []
    assert cut_whole(np.zeros(0, dtype=np.int16), rate, segmenter()) == []


def test_an_utterance_open_at_the_end_ends_with_the_audio() -> None:
    rate = 8_000
    samples = babble(rate, 2.0)
    assert cut_whole(samples, rate, segmenter())[-1].end_sample == len(samples)


def test_keep_from_moves_on_in_silence_and_stays_in_speech() -> None:
    rate = 8_000
    state = ChannelState(rate=rate)
    segmenter().advance([ChannelInput(state=state, samples=np.zeros(4 * rate, dtype=np.int16))])
    assert 3.7 * rate < state.keep_from <= 4 * rate
    segmenter().advance([ChannelInput(state=state, samples=babble(rate, 3.0))])
    assert state.keep_from < 4.3 * rate


def test_misuse_is_refused() -> None:
    state = ChannelState(rate=8_000)
    good = np.zeros(10, dtype=np.int16)
    with pytest.raises(ValueError, match="int16"):
        segmenter().advance([ChannelInput(state=state, samples=good.astype(np.float32))])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="only once"):
        segmenter().advance([ChannelInput(state=state, samples=good), ChannelInput(state=state, samples=good)])
    with pytest.raises(ValueError, match="unsupported sample rate"):
        ChannelState(rate=12_345)
    with pytest.raises(ValueError, match="another version"):
        ChannelState.from_bytes(b"\xff" + state.to_bytes()[1:])
    with pytest.raises(ValueError, match="length"):
        ChannelState.from_bytes(state.to_bytes()[:-1])
    assert state.received == 0
    segmenter().flush(state)
    with pytest.raises(ValueError, match="flushed"):
        segmenter().advance([ChannelInput(state=ChannelState.from_bytes(state.to_bytes()), samples=good)])


def test_the_cut_version_follows_options() -> None:
    assert segmenter().cut_version == Segmenter(SileroVad()).cut_version
    assert segmenter().cut_version != Segmenter(SileroVad(), CutOptions(threshold=0.6)).cut_version
