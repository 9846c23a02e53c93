"""Any file becomes the samples it holds."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from stream.audio import Pcm
from stream.files import AudioFile, UnreadableAudio, read_file


def tone(seconds: float, rate: int, channels: int) -> Pcm:
    t = np.arange(int(seconds * rate)) / rate
    return np.stack(
        [(12_000 * np.sin(2 * np.pi * 300 * (1 + c) * t)).astype(np.int16) for c in range(channels)], axis=1
    )


def encode(path: Path, codec: str, samples: Pcm) -> None:
    """48 kHz stereo into a lossy file."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="stereo")
        frame.rate = 48_000
        for part in [frame, None]:
            container.mux(stream.encode(part))


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_files_are_read_exactly(tmp_path: Path, suffix: str, rate: int, channels: int) -> None:
    path, samples = tmp_path / f"call.{suffix}", tone(1.3, rate, channels)
    soundfile.write(path, samples, rate)
    found, found_rate = read_file(path)
    assert found_rate == rate
    assert found.dtype == np.int16
    assert (found == samples).all()


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "mp3"), ("m4a", "aac"), ("opus", "libopus")])
def test_lossy_files_are_read_in_time_and_channel(tmp_path: Path, suffix: str, codec: str) -> None:
    path, samples = tmp_path / f"call.{suffix}", tone(2, 48_000, 2)
    encode(path, codec, samples)
    found, rate = read_file(path)
    assert rate == 48_000
    assert found.shape[1] == 2
    assert abs(len(found) - 96_000) < 9_600
    for channel in (0, 1):
        spectrum = np.abs(np.fft.rfft(found[24_000:72_000, channel].astype(float)))
        assert abs(int(spectrum.argmax()) - 300 * (1 + channel)) <= 2


@pytest.mark.parametrize(("rate", "heard"), [(96_000, 48_000), (4_000, 8_000), (12_000, 16_000), (37_800, 44_100)])
def test_rates_that_calls_cannot_have_are_resampled(tmp_path: Path, rate: int, heard: int) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, tone(1, rate, 1), rate)
    found, found_rate = read_file(path)
    assert found_rate == heard
    assert abs(len(found) - heard) < heard // 100


def test_what_is_no_call_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp3"
    text.write_text("not audio at all\n" * 100)
    with pytest.raises(UnreadableAudio, match=r"notes\.mp3"):
        read_file(text)
    surround = tmp_path / "surround.wav"
    soundfile.write(surround, np.zeros((800, 6), np.int16), 8_000)
    with pytest.raises(UnreadableAudio, match="6 channels"):
        read_file(surround)
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros((0, 1), np.int16), 8_000)
    with pytest.raises(UnreadableAudio):
        read_file(empty)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none.wav")


def test_a_file_longer_than_asked_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(8_000 * 3, np.int16), 8_000)
    with pytest.raises(UnreadableAudio, match="longer than 2 s"):
        read_file(path, max_seconds=2)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    """FFmpeg itself would follow it."""
    encode(tmp_path / "secret.ts", "mp2", tone(2, 48_000, 2))
    playlist = tmp_path / "call.m3u8"
    playlist.write_text(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n"
        f"#EXTINF:2.0,\n{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n"
    )
    with av.open(playlist) as followed:
        assert next(followed.decode(audio=0)).samples
    with pytest.raises(UnreadableAudio, match=r"call\.m3u8"):
        read_file(playlist)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_a_file_says_how_long_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"call.{suffix}"
    soundfile.write(path, tone(3, 8_000, 2), 8_000)
    with AudioFile(path) as file:
        assert file.duration_ms == 3_000


def test_a_file_that_does_not_say_how_long_it_is_is_read_nevertheless(tmp_path: Path) -> None:
    """As who streams FLAC to a file writes it: the header's total samples (36 bits from the low half of byte 21) are 0."""
    path = tmp_path / "call.flac"
    soundfile.write(path, tone(3, 8_000, 2), 8_000)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    path.write_bytes(data)
    with AudioFile(path) as file:
        assert file.duration_ms is None
        assert sum(map(len, file.blocks())) == 24_000


def test_blocks_of_a_file_are_small(tmp_path: Path) -> None:
    path = tmp_path / "call.flac"
    soundfile.write(path, tone(60, 8_000, 2), 8_000)
    with AudioFile(path) as file:
        sizes = [len(block) for block in file.blocks()]
    assert sum(sizes) == 480_000
    assert max(sizes) <= 65_535
