"""Audio in: log-mel at 16 and 8 kHz, other rates, token counts, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from transformers import Phi4MultimodalFeatureExtractor  # noqa: E402

from speech.contract import InvalidRequest  # noqa: E402
from speech.phi4.audio import Clip, FrontEnd, Narrowband, audio_frames, audio_tokens, check_clip, front_end  # noqa: E402
from speech.phi4.mel import log_mel, mel_filters  # noqa: E402
from speech.phi4.resampling import resample  # noqa: E402
from tests.speech.phi4.reference import noise  # noqa: E402

CPU = torch.device("cpu")
RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def numpy_log_mel(samples: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Written from the front end's description, frame by frame, in float64: 80 triangles over the power spectrum.

    8 kHz ("fillzero"): 25 ms are 200 samples, the transform has 256 points, its bins below 4 kHz take the places of the
    first 128 of 257, the others are zero.
    """
    size, hop, points = (200, 80, 256) if rate == 8_000 else (400, 160, 512)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    corners = np.linspace(0.0, 1127 * np.log(1 + 7690 / 700), 82)
    rows = []
    for start in range(0, len(samples) - size + 1, hop):
        frame = samples[start : start + size].astype(np.float64)
        emphasised = np.array([frame[i] - 0.97 * frame[max(0, i - 1)] for i in range(size)]) * 32768
        # The transform written out: sums over cosines and sines.
        bins = np.arange(points // 2 if rate == 8_000 else points // 2 + 1)
        angles = 2 * np.pi * np.outer(bins, np.arange(size)) / points
        windowed = window * emphasised
        power = np.zeros(257)
        power[bins] = (np.cos(angles) @ windowed) ** 2 + (np.sin(angles) @ windowed) ** 2
        mels = 1127 * np.log(1 + np.arange(257) * (16_000 / 512) / 700)
        row = []
        for low, middle, high in zip(corners, corners[1:], corners[2:], strict=False):
            weights = np.minimum((mels - low) / (middle - low), (high - mels) / (high - middle)).clip(min=0)
            row.append(np.log(max(1.0, float(weights @ power))))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("seconds", [0.025, 0.05, 1.0, 7.3])
def test_16_khz_features_equal_the_stock_extractor_bit_for_bit(seconds: float) -> None:
    samples = noise(seconds, seed=3)
    stock = Phi4MultimodalFeatureExtractor()(samples, sampling_rate=16_000, return_tensors="pt")
    (mine,) = log_mel([Clip(samples=samples)], device=CPU)
    assert torch.equal(mine, stock["audio_input_features"][0])
    assert audio_tokens(len(samples), 16_000) == int(stock["audio_embed_sizes"][0])


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_features_equal_an_independent_numpy_reference(rate: int) -> None:
    samples = np.concatenate([noise(0.2, seed=4), np.zeros(300, np.float32), noise(0.1, seed=5) * 1e-3])
    (mine,) = log_mel([Clip(samples=samples, rate=rate)], device=CPU)
    wanted = numpy_log_mel(samples, rate)
    assert mine.shape == wanted.shape
    assert np.abs(mine.numpy() - wanted).max() < 1e-4  # of values up to 25


def test_telephone_audio_has_nothing_in_the_upper_mel_bins() -> None:
    clip = Clip(samples=noise(1.0, seed=6), rate=8_000)
    (filled,), (resampled,) = (log_mel([clip], device=CPU, narrowband=way) for way in Narrowband)
    above = int(np.argmax(np.linspace(0, 1127 * np.log(1 + 7690 / 700), 82)[:-2] >= 1127 * np.log(1 + 4000 / 700)))
    assert float(filled[:, above:].max()) == 0.0  # the logarithm's floor, as in training
    assert float(filled[:, : above - 2].min()) > 0.0
    assert float(resampled[:, above + 2 :].mean()) > 0.0
    assert filled.shape == resampled.shape


def test_reversed_and_read_only_arrays_are_read_as_they_are() -> None:
    samples = noise(0.5, seed=8)
    samples.setflags(write=False)
    (backwards,) = log_mel([Clip(samples=samples[::-1])], device=CPU)
    (copied,) = log_mel([Clip(samples=samples[::-1].copy())], device=CPU)
    assert torch.equal(backwards, copied)


def test_the_filters_are_the_stock_ones() -> None:
    assert np.allclose(mel_filters(), Phi4MultimodalFeatureExtractor().mel_filters, rtol=0, atol=1e-7)


def test_clips_in_one_call_equal_each_alone() -> None:
    clips = [
        Clip(samples=noise(s, seed=i), rate=r)
        for i, (s, r) in enumerate([(1, 16_000), (0.5, 8_000), (2, 44_100), (0.05, 16_000)])
    ]
    together = log_mel(clips, device=CPU)
    for clip, mine in zip(clips, together, strict=True):
        (alone,) = log_mel([clip], device=CPU)
        assert torch.allclose(mine, alone, rtol=0, atol=1e-5)


def tone(hertz: float, rate: int) -> NDArray[np.float32]:
    """A second of it."""
    return np.sin(2 * np.pi * hertz * np.arange(rate) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [r for r in RATES if r != 16_000])
def test_resampled_tones_are_the_same_tones(rate: int) -> None:
    """Below the lower Nyquist frequency a tone passes, above it nothing does; inside, away from the ends."""
    for hertz in (110.0, 1_000.0, 3_400.0, 0.85 * min(rate, 16_000) / 2):
        made = resample(tone(hertz, rate), rate, device=CPU)
        wanted = torch.sin(2 * torch.pi * hertz * torch.arange(16_000, dtype=torch.float64) / 16_000).float()
        assert len(made) == 16_000
        assert float((made - wanted)[400:-400].abs().max()) < 1e-3, (rate, hertz)
    if rate > 16_000:
        alias = resample(tone(9_000, rate), rate, device=CPU)
        assert float(alias[400:-400].abs().max()) < 1e-3


@given(samples=st.integers(0, 60_000), rate=st.sampled_from(RATES), narrowband=st.sampled_from(list(Narrowband)))
@settings(max_examples=60, deadline=None)
def test_counts_without_running_anything_are_the_counts_of_running(
    samples: int, rate: int, narrowband: Narrowband
) -> None:
    clip = Clip(samples=np.zeros(samples, np.float32), rate=rate)
    if audio_frames(samples, rate, narrowband) < 1:
        with pytest.raises(InvalidRequest, match="too short"):
            audio_tokens(samples, rate, narrowband)
        return
    (features,) = log_mel([clip], device=CPU, narrowband=narrowband)
    assert len(features) == audio_frames(samples, rate, narrowband)
    assert audio_tokens(samples, rate, narrowband) == -(-len(features) // 8)


def test_the_front_end_is_told() -> None:
    assert front_end(16_000) is FrontEnd.WIDEBAND
    assert front_end(8_000) is FrontEnd.FILLZERO
    assert front_end(8_000, Narrowband.RESAMPLE) is FrontEnd.RESAMPLED
    assert front_end(44_100) is FrontEnd.RESAMPLED
    for rate, sentence in (
        (7_999, "8000 to 48000"),
        (96_000, "8000 to 48000"),
        (0, "8000 to 48000"),
        (44_101, "too odd"),
    ):
        with pytest.raises(InvalidRequest, match=sentence):
            front_end(rate)


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (np.zeros(0, np.float32), "too short"),
        (np.zeros(100, np.float32), "too short"),
        (np.zeros((400, 2), np.float32), "one channel"),
        (np.zeros(16_000, np.int16), "float32"),
        (np.zeros(16_000, np.float64), "float32"),
        (np.full(16_000, 3_000.0, np.float32), "not scaled"),
        (np.full(16_000, np.nan, np.float32), "NaN"),
        (np.full(16_000, np.inf, np.float32), "NaN or infinite"),
    ],
)
def test_bad_audio_is_one_clear_error(samples: Any, sentence: str, models: Any) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        check_clip(Clip(samples=samples))
    with pytest.raises(InvalidRequest, match=sentence):
        models().encode([Clip(samples=noise(0.1, seed=1)), Clip(samples=samples)])
