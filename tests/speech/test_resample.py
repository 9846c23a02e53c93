"""The resampler against soxr, and against itself in pieces."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from speech.resample import RATES, resampler
from stream import limits


def test_the_contract_takes_the_rates_that_are_resampled() -> None:
    assert limits.RATES == RATES


def resample(samples: NDArray[np.int16], rate: int, blocks_at_once: int) -> NDArray[np.int16]:
    filters = resampler(rate)
    before = -filters.needs(0)[0]
    padded = np.concatenate((np.zeros(before, np.int16), samples))
    out, block = [], 0
    while block + blocks_at_once <= filters.complete(len(samples)):
        first = filters.needs(block)[0] + before
        last = filters.needs(block + blocks_at_once - 1)[1] + before
        out.append(filters.blocks(block, blocks_at_once, padded[first:last]))
        block += blocks_at_once
    return np.concatenate(out)


@pytest.mark.parametrize("rate", RATES)
def test_the_split_changes_no_sample(rate: int) -> None:
    noise = np.random.default_rng(1).integers(-32768, 32767, rate, endpoint=True).astype(np.int16)
    one = resample(noise, rate, 1)
    for count in (2, 3, 7, 30):
        other = resample(noise, rate, count)
        assert np.array_equal(one[: len(other)], other)


@pytest.mark.parametrize("rate", RATES)
def test_it_agrees_with_soxr_in_the_band_of_speech(rate: int) -> None:
    t = np.arange(rate) / rate
    tones = sum(np.sin(2 * np.pi * f * t + f) for f in (110, 440, 1_310, 2_200, 3_000))
    samples = np.rint(tones * 5_000).astype(np.int16)
    ours = resample(samples, rate, 1).astype(np.float64)
    theirs = soxr.resample(samples.astype(np.float64), rate, 16_000)[: len(ours)]
    middle = slice(2_000, -2_000)
    error = np.sqrt(np.mean((ours[middle] - theirs[middle]) ** 2) / np.mean(theirs[middle] ** 2))
    assert error < 0.002  # -54 dB


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        resampler(8_000).blocks(0, 2, np.zeros(300, np.int16))
