"""Any audio file that FFmpeg reads (wav, flac, mp3, m4a, opus, ...), through PyAV, as 16-bit samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from stream.limits import MAX_CHANNELS, MAX_RATE, RATES

__all__ = ["AudioFile", "UnreadableAudio", "read_file"]

Pcm = NDArray[np.int16]

# 2 h x 3,600 s x 48,000 frames x 2 channels x 2 bytes = 1.4 GB at the very worst; a 2 h telephone call has 230 MB.
MAX_READ_SECONDS = 2 * 3_600


class UnreadableAudio(ValueError):
    """The file is no audio that can be read; convert it to WAV or FLAC with one or two channels and try again."""


class AudioFile:
    """An audio file opened for reading; `rate` in Hz and `channels` are those of the samples that `blocks` yields.

    `duration_ms` is what the file says or FFmpeg makes of its size: not exact, and None where neither tells.

    A rate that calls cannot have (stream.limits.RATES) is resampled to the next higher, above 48,000 Hz to 48,000;
    everything else stays as it is.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file = self.path.open("rb")
        try:
            # FFmpeg gets an open file and no protocol, so that a playlist cannot make it open anything else.
            self._container = av.open(self._file, mode="r", options={"protocol_whitelist": "none"})
        except (av.FFmpegError, ValueError) as err:
            self._file.close()
            raise UnreadableAudio(f"{self.path.name} is not an audio file that FFmpeg reads") from err
        if not self._container.streams.audio:
            self.close()
            raise UnreadableAudio(f"{self.path.name} holds no audio")
        self._stream = self._container.streams.audio[0]
        self.channels = self._stream.codec_context.layout.nb_channels
        if not 1 <= self.channels <= MAX_CHANNELS:
            self.close()
            raise UnreadableAudio(f"{self.path.name} has {self.channels} channels; a call has 1 or 2")
        found = self._stream.codec_context.sample_rate
        self.rate = next((rate for rate in RATES if rate >= found), MAX_RATE)
        found_us = self._container.duration
        self.duration_ms = None if found_us is None else found_us // 1000

    def blocks(self) -> Iterator[Pcm]:
        """The samples in order, int16 [frames, channels], in blocks of whatever size the file has. Once only."""
        layout = "mono" if self.channels == 1 else "stereo"
        resampler = AudioResampler(format="s16", layout=layout, rate=self.rate)
        try:
            for frame in self._container.decode(self._stream):
                for part in resampler.resample(frame):
                    yield part.to_ndarray().astype(np.int16, copy=False).reshape(-1, self.channels)
            for part in resampler.resample(None):
                yield part.to_ndarray().astype(np.int16, copy=False).reshape(-1, self.channels)
        except av.FFmpegError as err:
            raise UnreadableAudio(f"{self.path.name} breaks off or is damaged") from err

    def close(self) -> None:
        self._container.close()
        self._file.close()

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_file(path: Path | str, *, max_seconds: int = MAX_READ_SECONDS) -> tuple[Pcm, int]:
    """A whole file: int16 [frames, channels], and its rate in Hz. Raises UnreadableAudio, or OSError."""
    with AudioFile(path) as file:
        blocks, frames = [], 0
        for block in file.blocks():
            frames += len(block)
            if frames > max_seconds * file.rate:
                raise UnreadableAudio(f"{file.path.name} is longer than {max_seconds} s")
            blocks.append(block)
        if not blocks:
            raise UnreadableAudio(f"{file.path.name} holds no audio")
        return np.concatenate(blocks), file.rate
