"""Codecs against libsndfile, at every rate and split."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import Permanent
from stream.audio import Pcm, decode, decode_chunk, decode_flac, encode_flac
from stream.g711 import ALAW_SILENCE, ULAW_SILENCE
from stream.limits import MAX_VALUE_BYTES, RATES
from tests.stream.bad import chunk, wav

_rates = st.sampled_from(RATES)


def noise(frames: int, channels: int, seed: int = 0) -> Pcm:
    return np.random.default_rng(seed).integers(-32_768, 32_768, (frames, channels)).astype(np.int16)


def sndfile_raw(value: bytes, subtype: str, channels: int) -> Pcm:
    samples, _ = soundfile.read(
        io.BytesIO(value),
        samplerate=8_000,
        channels=channels,
        subtype=subtype,
        format="RAW",
        endian="LITTLE",
        dtype="int16",
        always_2d=True,
    )
    return np.asarray(samples, dtype=np.int16)


@pytest.mark.parametrize(("codec", "subtype"), [("pcmu", "ULAW"), ("pcma", "ALAW")])
def test_every_g711_code_is_libsndfiles(codec: str, subtype: str) -> None:
    codes = bytes(range(256))
    assert (decode(codes, codec=codec, rate=8_000, channels=1) == sndfile_raw(codes, subtype, 1)).all()


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=400), st.integers(1, 2), _rates)
def test_raw_codecs_are_libsndfiles(value: bytes, channels: int, rate: int) -> None:
    value *= 2 * channels
    for codec, subtype in (("pcmu", "ULAW"), ("pcma", "ALAW"), ("l16", "PCM_16")):
        found = decode(value, codec=codec, rate=rate, channels=channels)
        assert found.dtype == np.int16
        assert (found == sndfile_raw(value, subtype, channels)).all()


def test_silence_is_as_quiet_as_the_codec_can() -> None:
    assert decode(ULAW_SILENCE, codec="pcmu", rate=8_000, channels=1).tolist() == [[0]]
    assert decode(ALAW_SILENCE, codec="pcma", rate=8_000, channels=1).tolist() == [[8]]


@settings(deadline=None, max_examples=60)
@given(frames=st.integers(1, 3_000), channels=st.integers(1, 2), rate=_rates, seed=st.integers(0, 9))
def test_lossless_codecs_give_back_what_went_in(frames: int, channels: int, rate: int, seed: int) -> None:
    samples = noise(frames, channels, seed)
    for codec, value in (
        ("l16", samples.astype("<i2").tobytes()),
        ("wav", wav(samples, rate)),
        ("flac", encode_flac(samples, rate)),
    ):
        assert (decode(value, codec=codec, rate=rate, channels=channels) == samples).all()


@settings(deadline=None, max_examples=30)
@given(frames=st.integers(1, 5_000), rate=_rates)
def test_an_utterance_goes_through_flac(frames: int, rate: int) -> None:
    samples = noise(frames, 1)[:, 0]
    found, found_rate = decode_flac(encode_flac(samples, rate))
    assert found_rate == rate
    assert found.shape == (frames,)
    assert (found == samples).all()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"])
def test_wav_of_every_integer_encoding(subtype: str) -> None:
    value = wav(noise(1_600, 2), subtype=subtype)
    expected, _ = soundfile.read(io.BytesIO(value), dtype="int16", always_2d=True)
    assert (decode(value, codec="wav", rate=8_000, channels=2, duration_ms=200) == expected).all()


def test_a_wav_with_chunks_after_and_before_its_audio() -> None:
    value = wav(noise(1_600, 2))
    after = value + b"LIST\x04\x00\x00\x00abcd"
    before = value[:12] + b"junk\x03\x00\x00\x00abc\x00" + value[12:]
    for changed in (after, before):
        assert len(decode(changed, codec="wav", rate=8_000, channels=2, duration_ms=200)) == 1_600


def test_the_largest_audio_fits_a_record_uncompressed() -> None:
    """White noise is FLAC's worst case: 5 s of 48 kHz stereo, and an utterance of 30 s at 16 kHz."""
    piece = noise(48_000 * 5, 2)
    value = encode_flac(piece, 48_000)
    assert len(value) <= MAX_VALUE_BYTES
    assert (decode(value, codec="flac", rate=48_000, channels=2, duration_ms=5_000) == piece).all()
    utterance = noise(16_000 * 30, 1)[:, 0]
    value = encode_flac(utterance, 16_000)
    assert len(value) <= MAX_VALUE_BYTES
    assert (decode_flac(value)[0] == utterance).all()


@pytest.mark.parametrize("codec", ["pcmu", "pcma", "l16", "wav", "flac"])
def test_five_seconds_are_decoded_and_no_more(codec: str) -> None:
    def value(frames: int) -> bytes:
        samples = np.zeros((frames, 1), np.int16)
        encode: dict[str, Any] = {
            "l16": samples.tobytes,
            "wav": lambda: wav(samples),
            "flac": lambda: encode_flac(samples, 8_000),
        }
        return bytes(encode.get(codec, lambda: b"\xff" * frames)())

    assert len(decode(value(40_000), codec=codec, rate=8_000, channels=1)) == 40_000
    with pytest.raises(Permanent, match="duration_mismatch"):
        decode(value(40_001), codec=codec, rate=8_000, channels=1)


@settings(deadline=None)
@given(rate=_rates, frames=st.integers(1_000, 48_000))
def test_a_duration_may_be_rounded_either_way(rate: int, frames: int) -> None:
    exact = frames * 1000 / rate
    value = b"\0\0" * frames
    for duration_ms in {int(exact), -int(-exact // 1)}:
        if 20 <= duration_ms <= 5_000:
            piece = chunk(codec="l16", rate=rate, channels=1, roles=("agent",), duration_ms=duration_ms, value=value)
            assert len(decode_chunk(piece)) == frames


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_audio_is_refused_or_decoded_never_a_crash(data: st.DataObject) -> None:
    codec = data.draw(st.sampled_from(["wav", "flac"]))
    value = bytearray(_DAMAGED[codec])
    for _ in range(data.draw(st.integers(1, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(value[: data.draw(st.integers(1, len(value)))])
    outcome = None
    try:
        outcome = decode(cut, codec=codec, rate=8_000, channels=2)
    except Permanent as refused:
        assert refused.reason  # noqa: PT017 - any reason will do
    assert outcome is None or outcome.shape[1] == 2


_DAMAGED = {"wav": wav(), "flac": encode_flac(noise(1_600, 2), 8_000)}


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("unsupported_codec", {"codec": "opus"}),
        ("unsupported_rate", {"rate": 7_999}),
        ("unsupported_rate", {"rate": 48_001}),
        ("unsupported_channels", {"channels": 65_535}),
        ("unsupported_channels", {"channels": 0}),
        ("empty_chunk", {"value": b""}),
    ],
)
def test_decode_checks_its_own_arguments(reason: str, changes: dict[str, Any]) -> None:
    with pytest.raises(Permanent) as refused:
        decode(**{"value": b"\xff" * 160, "codec": "pcmu", "rate": 8_000, "channels": 1, **changes})
    assert refused.value.reason == reason


def test_an_utterance_is_mono_and_at_most_30_s() -> None:
    with pytest.raises(Permanent, match="header_mismatch"):
        decode_flac(encode_flac(noise(800, 2), 8_000))
    with pytest.raises(Permanent, match="duration_mismatch"):
        decode_flac(encode_flac(np.zeros(8_000 * 31, np.int16), 8_000))
    with pytest.raises(Permanent, match="unsupported_rate"):
        decode_flac(encode_flac(np.zeros(800, np.int16), 4_000))


def test_only_16_bits_are_encoded() -> None:
    with pytest.raises(TypeError, match="int16"):
        encode_flac(np.zeros(800, np.float32), 8_000)
